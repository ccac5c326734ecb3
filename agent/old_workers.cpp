#include "agent/old_workers.hpp"

#include "agent/alarm.hpp"
#include "agent/journal.hpp"
#include "etcd_http/patroni.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <map>
#include <utility>

namespace pointsman::agent {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using runtime_api::open_session;
using runtime_api::result;

namespace {

constexpr auto interval = 1s; // a reload may come at any time

time_point now() {
    return std::chrono::steady_clock::now();
}

} // namespace

old_workers::old_workers(const asio::any_io_executor& executor, runtime_api::master master,
                         std::function<session_rules()> rules, journal& told)
    : executor_(executor), master_(std::move(master)), ask_rules_(std::move(rules)), journal_(told),
      alarm_(std::make_unique<alarm>(executor)) {}

old_workers::~old_workers() = default;

void old_workers::passed() {
    session_rules rules = ask_rules_();
    if (rules == rules_)
        return;
    rules_ = std::move(rules);
    alarm_->ring();
}

asio::awaitable<void> old_workers::run() {
    for (;;) {
        alarm_->reset();
        if (any_end(rules_))
            co_await sweep();
        co_await alarm_->sleep_until(now() + interval);
    }
}

asio::awaitable<void> old_workers::sweep() {
    const auto workers = co_await master_.old_workers();
    if (workers.has_error()) {
        report(workers.error());
        co_return;
    }
    result<void> all;
    for (const std::int64_t pid : *workers) {
        const auto swept = co_await sweep_worker(pid);
        if (swept.has_error())
            all = swept.error();
    }
    report(all);
}

asio::awaitable<result<void>> old_workers::sweep_worker(std::int64_t pid) {
    const auto seen = co_await master_.look(pid);
    if (seen.has_error())
        co_return seen.error();
    if (!*seen)
        co_return result<void>();
    auto sessions = to_end(rules_, **seen);
    if (sessions.empty())
        co_return result<void>();
    report_cut(pid, sessions);
    const auto cut = co_await master_.cut(pid, std::move(sessions));
    co_return cut;
}

void old_workers::report_cut(std::int64_t pid, const std::vector<open_session>& sessions) {
    std::map<runtime_api::slot_id, std::uint64_t> counts;
    for (const open_session& session : sessions)
        ++counts[session.slot];
    const std::string why = "R9: the member that they are with was demoted or is dead";
    for (const auto& [slot, count] : counts) {
        spdlog::info("haproxy: old worker {}: sessions={} slot={} cut, why=\"{}\"", pid, count, to_string(slot), why);
        journal_.add(
            {.kind = "slot",
             .subject = to_string(slot),
             .text = fmt::format("{} session{} of HAProxy's old worker {} cut", count, count == 1 ? "" : "s", pid),
             .why = why,
             .cut = count});
    }
}

void old_workers::report(const result<void>& swept) {
    if (swept.has_error()) {
        const auto told = trouble_.seen(etcd_http::printable(swept.error().detail, 300), now());
        if (told)
            spdlog::error("{}; sessions that old workers hold with a demoted node stay until it answers, trying on",
                          told->text);
    } else if (const auto lasted = trouble_.over(now())) {
        spdlog::info("haproxy: the master socket answers again, {}", *lasted);
    }
}

} // namespace pointsman::agent
