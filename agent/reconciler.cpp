#include "agent/reconciler.hpp"

#include "etcd_http/patroni.hpp"
#include "runtime_api/state_file.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <spdlog/spdlog.h>

#include <algorithm>

namespace pointsman::agent {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using etcd_http::printable;
using runtime_api::slot;

namespace {

// How often HAProxy is looked at when nothing happens: drift is repaired within this time (R7).
constexpr auto resync_interval = 1s;

// How many stages one pass may take; a pool needs three (take away, re-address, give).
constexpr int most_stages = 12;

// An address change is carried out by another task of HAProxy's, from 2.9 on: visible in less than a millisecond,
// mostly (facts 1.3). Looked for this often, this far apart, before it counts as failed.
constexpr int address_looks = 50;
constexpr auto address_wait = 1ms;

time_point now() {
    return std::chrono::steady_clock::now();
}

asio::awaitable<void> pause_for(const asio::any_io_executor& executor, std::chrono::milliseconds how_long) {
    asio::steady_timer timer(executor, how_long);
    co_await timer.async_wait(asio::use_awaitable);
}

std::string name_of(const std::optional<std::string>& member) {
    return member ? printable(*member) : "-";
}

std::map<std::string, observed_pool> by_backend(const std::vector<slot>& slots) {
    std::map<std::string, observed_pool> result;
    for (const slot& s : slots)
        result[s.id.backend()].slots.push_back(s);
    return result;
}

// HAProxy has taken a command for the member's slot.
void time_failover(failover_timer& timer, const std::string& member, const runtime_api::command& taken, time_point at) {
    const auto* change = std::get_if<runtime_api::set_state>(&taken);
    if (change && change->state == runtime_api::admin_state::maint)
        timer.went_to_maint(member, at);
    if (change && change->state == runtime_api::admin_state::ready)
        timer.went_to_ready(member, at);
}

// The first stage of a plan: what can be sent before HAProxy must be looked at again.
std::vector<planned> first_stage(const std::vector<planned>& steps) {
    const auto end = std::ranges::find_if(steps, [&steps](const planned& p) { return p.when != steps.front().when; });
    return {steps.begin(), end};
}

} // namespace

// One pool of one cluster: what is remembered of it from pass to pass.
struct reconciler::pool {
    pool(const cluster_watch& w, const config::pool_settings& s) : watch(w), settings(s) {}

    const cluster_watch& watch;
    const config::pool_settings& settings;

    observed_pool observed;
    placement where;
    std::vector<desired_slot> desired; // empty: nothing is desired (yet)
    std::vector<planned> steps;        // from observed to desired
    std::vector<planned> sent;         // the stage sent last in this pass
    bool failed{};                     // in this pass
    bool was_in_step{};                // at the end of the last pass
    std::vector<desired_slot> settled; // what was desired then
    std::string trouble;               // as logged last; empty: none
    failover_timer timer;              // of a primary pool

    const std::string& scope() const { return watch.settings().scope; }
};

struct reconciler::wake_up {
    explicit wake_up(const asio::any_io_executor& ex) : channel(ex, 1) {}
    asio::experimental::channel<void(boost::system::error_code)> channel;
};

reconciler::reconciler(const asio::any_io_executor& executor, runtime_api::session session,
                       std::vector<const cluster_watch*> watches, std::string state_file, metrics& counted,
                       std::function<void()> passed)
    : executor_(executor), session_(std::move(session)), state_file_(std::move(state_file)), metrics_(counted),
      passed_(std::move(passed)), wake_up_(std::make_unique<wake_up>(executor)) {
    for (const cluster_watch* watch : watches) {
        for (const config::pool_settings& settings : watch->settings().pools) {
            pools_.push_back(std::make_unique<pool>(*watch, settings));
            backends_.push_back(settings.backend);
        }
    }
}

reconciler::~reconciler() = default;

void reconciler::wake() {
    wake_up_->channel.try_send(boost::system::error_code());
}

asio::awaitable<void> reconciler::run() {
    asio::steady_timer resync(executor_);
    for (;;) {
        co_await pass();
        passed_();
        resync.expires_at(next_pass(now()));
        resync.async_wait([this](boost::system::error_code error) {
            if (!error)
                wake();
        });
        co_await wake_up_->channel.async_receive(asio::use_awaitable);
    }
}

// A switchover that was scheduled begins and ends at its time, not at the next resync (R12).
time_point reconciler::next_pass(time_point at) const {
    time_point next = at + resync_interval;
    for (const auto& p : pools_) {
        if (const auto change = next_change(p->watch.state(), at))
            next = std::min(next, *change);
    }
    return next;
}

asio::awaitable<void> reconciler::pass() {
    for (auto& p : pools_) {
        p->failed = false;
        p->sent.clear();
    }
    for (int round = 0; round != most_stages; ++round) {
        const bool seen = co_await observe();
        if (!seen)
            co_return;
        bool sent = false;
        for (auto& p : pools_) {
            if (p->failed || p->steps.empty())
                continue;
            if (round == 0)
                report_drift(*p);
            const bool went_on = co_await carry_out_stage(*p);
            sent = sent || went_on;
        }
        if (!sent)
            break;
    }
    for (auto& p : pools_) {
        if (!p->failed && !p->steps.empty())
            give_up(*p, "still not in step after " + std::to_string(most_stages) + " rounds");
        p->was_in_step = !p->desired.empty() && p->steps.empty();
        p->settled = p->desired;
        if (p->was_in_step && !p->trouble.empty()) {
            spdlog::info("cluster {}: pool {}: in step again", p->scope(), p->settings.backend);
            p->trouble.clear();
        }
    }
    keep_state_file();
}

// Reads HAProxy and plans every pool anew. False where HAProxy could not be read.
asio::awaitable<bool> reconciler::observe() {
    auto seen = co_await session_.observe();
    for (int tries = 0; seen.has_error() && seen.error().kind == runtime_api::errc::stopping && tries != 20; ++tries) {
        co_await pause_for(executor_, 5ms); // a reload is under way: the new worker answers within 50 ms (facts 5.2)
        seen = co_await session_.observe();
    }
    if (seen.has_error()) {
        if (haproxy_trouble_.empty())
            spdlog::error("{}; no slot can be changed until it answers, trying on",
                          printable(seen.error().detail, 300));
        haproxy_trouble_ = seen.error().detail;
        co_return false;
    }
    if (!haproxy_trouble_.empty()) {
        spdlog::info("haproxy {}: answers again", to_string(session_.target()));
        haproxy_trouble_.clear();
    }
    report_process(seen->process);
    seen_ = std::move(*seen);

    std::map<std::string, observed_pool> seen_pools = by_backend(seen_->slots);
    const bool drained = std::ranges::any_of(
        seen_->slots, [this](const slot& s) { return s.admin == runtime_api::admin_state::drain && is_ours(s); });
    if (drained) {
        const auto statistics = co_await session_.statistics();
        if (statistics.has_value()) {
            for (const auto& row : *statistics) {
                if (auto id = runtime_api::slot_id::parse(row.backend, row.server))
                    seen_pools[row.backend].sessions.insert_or_assign(*id, row.sessions);
            }
        }
    }
    for (auto& p : pools_) {
        take_slots(*p, std::move(seen_pools[p->settings.backend]), now());
        decide(*p, now());
    }
    co_return true;
}

bool reconciler::is_ours(const slot& s) const {
    return std::ranges::find(backends_, s.id.backend()) != backends_.end();
}

// An orphan keeps the time at which it was first seen as one.
void reconciler::take_slots(pool& p, observed_pool next, time_point at) {
    for (const slot& s : next.slots) {
        const bool owned = std::ranges::any_of(p.where.slots, [&s](const auto& entry) { return entry.second == s.id; });
        if (owned || s.admin == runtime_api::admin_state::maint)
            continue;
        const auto since = p.observed.orphan_since.find(s.id);
        next.orphan_since.emplace(s.id, since == p.observed.orphan_since.end() ? at : since->second);
    }
    p.observed = std::move(next);
    for (const auto& [name, id] : p.where.slots) {
        const auto s = std::ranges::find(p.observed.slots, id, &slot::id);
        if (s == p.observed.slots.end() || s->admin != runtime_api::admin_state::ready)
            continue;
        if (const auto over = p.timer.seen_ready(name, at)) {
            spdlog::info("cluster {}: pool {}: {}", p.scope(), p.settings.backend, describe(*over));
            metrics_.count(p.scope(), p.settings.backend, *over);
        }
    }
}

void reconciler::decide(pool& p, time_point at) {
    p.desired.clear();
    p.steps.clear();
    const cluster& c = p.watch.state();
    if (p.settings.role == config::pool_role::primary)
        p.timer.look(c, check_of(p.settings));
    if (p.observed.slots.empty()) {
        p.failed = true;
        give_up(p,
                fmt::format("HAProxy has no backend {} with slots: add it to haproxy.cfg (`pointsman haproxy-config` "
                            "prints it); nothing is routed there",
                            p.settings.backend));
        return;
    }
    if (!c.known || c.members.empty())
        return; // R5: nothing known is not nothing there
    std::vector<candidate> candidates;
    for (const auto& [name, m] : c.members)
        candidates.push_back({name, p.settings.use_proxy_url ? m.proxy : m.connect, c.last_leader == name});
    placement next = place(p.observed.slots, std::move(candidates), p.where);
    report_placement(p, next);
    p.where = std::move(next);
    p.desired = desire(p.watch.settings(), p.settings, c, p.observed, p.where, p.watch.etcd_readable(at), at);
    p.steps = plan(p.observed.slots, p.desired);
}

void reconciler::report_placement(pool& p, const placement& next) const {
    for (const std::string& name : next.without_slot) {
        if (!std::ranges::count(p.where.without_slot, name))
            spdlog::error("cluster {}: pool {}: no free slot for member {}: it is not served; more slots are needed in "
                          "haproxy.cfg (server-template)",
                          p.scope(), p.settings.backend, printable(name));
    }
    for (const auto& [name, other] : next.same_address) {
        if (!p.where.same_address.contains(name))
            spdlog::warn("cluster {}: pool {}: member {} has the address of {} and gets no slot of its own", p.scope(),
                         p.settings.backend, printable(name), printable(other));
    }
}

// Drift: the pool was in step, what is desired of a slot is the same as then, and yet the slot differs.
void reconciler::report_drift(pool& p) const {
    if (!p.was_in_step || p.settled.size() != p.desired.size())
        return;
    for (std::size_t i = 0; i != p.desired.size(); ++i) {
        const desired_slot& want = p.desired[i];
        const desired_slot& before = p.settled[i];
        const bool same = want.where == before.where && want.state == before.state && want.weight == before.weight &&
                          want.check == before.check;
        const bool differs =
            std::ranges::any_of(p.steps, [&want](const planned& s) { return slot_of(s.what) == want.id; });
        if (same && differs)
            spdlog::warn("cluster {}: pool {}: slot {} drifted: somebody else changed it, or HAProxy was restarted; "
                         "putting it back to {}",
                         p.scope(), p.settings.backend, to_string(want.id), to_string(want.state));
    }
}

// Sends the first stage of the pool's plan. False where nothing was left to try.
asio::awaitable<bool> reconciler::carry_out_stage(pool& p) {
    std::vector<planned> stage = first_stage(p.steps);
    for (int looks = 0; stage == p.sent; ++looks) {
        // HAProxy took these very commands, and the slots are as they were.
        if (stage.front().when != stage::re_address || looks == address_looks) {
            give_up(p, fmt::format("HAProxy took `{}` but the slot did not change", render(stage.front().what)));
            co_return false;
        }
        co_await pause_for(executor_, address_wait);
        const bool seen = co_await observe();
        if (!seen || p.steps.empty())
            co_return seen;
        stage = first_stage(p.steps);
    }
    const auto answer = co_await send(p, stage);
    if (answer.has_error()) {
        give_up(p, printable(answer.error().detail, 400));
        co_return false;
    }
    p.sent = std::move(stage);
    co_return true;
}

asio::awaitable<runtime_api::result<void>> reconciler::send(pool& p, std::vector<planned> stage) {
    std::vector<runtime_api::command> commands;
    for (const planned& step : stage)
        commands.push_back(step.what);
    std::span<const runtime_api::command> left = commands;
    std::size_t done = 0;
    while (!left.empty()) {
        const auto batch = next_batch(left);
        const time_point begin = now();
        const auto answer = co_await session_.execute(batch);
        const time_point end = now();
        const double took = std::chrono::duration<double, std::milli>(end - begin).count();
        for (std::size_t i = 0; i != batch.size(); ++i, ++done) {
            const planned& step = stage[done];
            const auto owner = std::ranges::find(p.desired, slot_of(step.what), &desired_slot::id);
            const auto member = owner == p.desired.end() ? std::nullopt : owner->member;
            spdlog::log(answer.has_value() ? spdlog::level::info : spdlog::level::err,
                        "cluster {}: command=\"{}\" member={} answer={} ms={:.2f} why=\"{}\"", p.scope(),
                        render(step.what), name_of(member), answer.has_value() ? "ok" : "failed", took, step.why);
            if (answer.has_value() && member)
                time_failover(p.timer, *member, step.what, end);
        }
        if (answer.has_error())
            co_return answer.error();
        left = left.subspan(batch.size());
    }
    co_return runtime_api::result<void>();
}

void reconciler::give_up(pool& p, std::string why) {
    p.failed = true;
    if (p.trouble != why)
        spdlog::error("cluster {}: pool {}: {}; trying again in {} s", p.scope(), p.settings.backend, why,
                      std::chrono::seconds(resync_interval).count());
    p.trouble = std::move(why);
}

void reconciler::report_process(const runtime_api::process_info& next) const {
    if (!seen_) {
        spdlog::info("haproxy {}: version {}, process {}", to_string(session_.target()), next.version, next.pid);
    } else if (seen_->process.pid != next.pid || seen_->process.start_time != next.start_time) {
        spdlog::warn(
            "haproxy {}: another process: {} instead of {}: it was reloaded or restarted, its slots are checked",
            to_string(session_.target()), next.pid, seen_->process.pid);
    }
}

void reconciler::keep_state_file() {
    const bool all_in_step = std::ranges::all_of(pools_, [](const auto& p) { return p->was_in_step; });
    if (state_file_.empty() || !all_in_step)
        return; // a file that was taken half-way would bring back what was being undone
    std::vector<slot> slots = seen_->slots;
    for (slot& s : slots) { // what changes by itself is no reason to write
        s.since_change = {};
        s.operational = {};
    }
    if (slots == state_file_slots_)
        return;
    const auto written = runtime_api::write_state_file(state_file_, runtime_api::state_file(seen_->dump, backends_));
    if (written.has_error()) {
        if (state_file_trouble_.empty())
            spdlog::error("{}; after a restart HAProxy would begin with its slots of before", written.error().detail);
        state_file_trouble_ = written.error().detail;
        return;
    }
    state_file_trouble_.clear();
    state_file_slots_ = std::move(slots);
}

std::vector<slot_row> reconciler::rows() const {
    std::vector<slot_row> result;
    for (const auto& p : pools_) {
        for (std::size_t i = 0; i != p->observed.slots.size(); ++i) {
            slot_row row = row_of(p->observed.slots[i]);
            if (i < p->desired.size()) {
                const desired_slot& want = p->desired[i];
                row.member = want.member;
                row.desired = std::string(to_string(want.state));
                row.in_step =
                    std::ranges::none_of(p->steps, [&want](const planned& s) { return slot_of(s.what) == want.id; });
                row.why = want.why;
            }
            result.push_back(std::move(row));
        }
    }
    return result;
}

} // namespace pointsman::agent
