#include "agent/reconciler.hpp"

#include "agent/alarm.hpp"
#include "agent/log.hpp"

#include <algorithm>
#include <utility>

namespace pointsman::agent {

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

// How often HAProxy is asked which process it is: a new one has its slots this long after its socket, at most (R8).
// Nothing tells of it by itself: a seamless reload hands even the socket's file on. Twice as often costs the agent and
// HAProxy 0.8 % of a core more each, on a busy machine.
constexpr auto heartbeat = 50ms;

time_point now() {
    return std::chrono::steady_clock::now();
}

std::vector<followed_cluster> followed(const std::vector<const cluster_watch*>& watches) {
    std::vector<followed_cluster> result;
    result.reserve(watches.size());
    for (const cluster_watch* watch : watches)
        result.push_back({watch->settings(), watch->state(), watch->poll_interval()});
    return result;
}

} // namespace

reconciler::reconciler(const asio::any_io_executor& executor, runtime_api::session session,
                       const std::vector<const cluster_watch*>& watches, file_keeper* keeper, journal& told,
                       metrics& counted, std::function<orders()> given, std::function<void()> passed)
    : executor_(executor), session_(std::move(session)), passes_(followed(watches), to_string(session_.target())),
      keeper_(keeper), journal_(told), metrics_(counted), given_(std::move(given)), passed_(std::move(passed)),
      alarm_(std::make_unique<alarm>(executor)) {}

reconciler::~reconciler() = default;

void reconciler::wake() {
    alarm_->ring();
}

asio::awaitable<void> reconciler::run() {
    for (;;) {
        alarm_->reset();
        co_await pass();
        last_ = now();
        passed_();
        co_await wait_for_reason();
    }
}

asio::awaitable<void> reconciler::pass() {
    todo what = passes_.begin(given_());
    while (!std::holds_alternative<rest>(what)) {
        what = co_await carry_out(what);
        report();
    }
    if (!keeper_)
        co_return;
    if (auto text = passes_.state_file())
        keeper_->keep([kept = std::move(*text)] { return kept; });
}

asio::awaitable<todo> reconciler::carry_out(todo what) {
    if (const auto* commands = std::get_if<send>(&what)) {
        const time_point begin = now();
        const auto answer = co_await session_.execute(commands->batch);
        metrics_.count_exchange(now() - begin);
        co_return passes_.answered(answer, begin, now());
    }
    if (const auto* count = std::get_if<count_sessions>(&what)) {
        const auto statistics = co_await session_.statistics(count->backend);
        co_return passes_.counted(statistics, now());
    }
    const auto after = std::get<look>(what).after;
    if (after > 0ms) {
        asio::steady_timer timer(executor_, after);
        co_await timer.async_wait(asio::use_awaitable);
    }
    const time_point begin = now();
    auto seen = co_await session_.observe();
    metrics_.count_exchange(now() - begin);
    co_return passes_.seen(std::move(seen), now());
}

asio::awaitable<void> reconciler::wait_for_reason() {
    const time_point until = passes_.next(now());
    while (now() < until) {
        co_await alarm_->sleep_until(std::min(until, now() + heartbeat));
        if (alarm_->rung())
            co_return;
        const auto process = co_await session_.identify();
        if (passes_.is_news(process))
            co_return;
    }
}

void reconciler::report() {
    log(passes_.take_notes());
    journal_.add_all(passes_.take_events());
    for (const ended_failover& f : passes_.take_failovers())
        metrics_.count(f.scope, f.backend, f.what);
    for (const pool_tally& t : passes_.take_tallies())
        metrics_.count(t);
    metrics_.count_process_changes(passes_.take_process_changes());
}

} // namespace pointsman::agent
