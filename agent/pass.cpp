// Pure: see pass.hpp.
#include "agent/pass.hpp"

#include "agent/desire.hpp"
#include "agent/placement.hpp"
#include "etcd_http/patroni.hpp"
#include "runtime_api/state_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <span>
#include <utility>

namespace pointsman::agent {

using namespace std::chrono_literals;
using etcd_http::printable;
using runtime_api::errc;
using runtime_api::slot;

namespace {

// How many stages a pool may take in one pass; it needs three (take away, re-address, give).
constexpr int most_stages = 12;

// An address change is carried out by another task of HAProxy's, from 2.9 on: visible in less than a millisecond,
// mostly (facts 1.3). Looked for this often, this far apart, before it counts as failed.
constexpr int address_looks = 50;
constexpr auto address_wait = 1ms;

// A reload is under way: the new worker answers within 50 ms (facts 5.2).
constexpr int worker_looks = 20;
constexpr auto worker_wait = 5ms;

// Of commands that are only told.
constexpr std::size_t most_told = 6;

std::string name_of(const std::optional<std::string>& member) {
    return member ? printable(*member) : "-";
}

// HAProxy has taken a command for the member's slot.
void time_failover(failover_timer& timer, const std::string& member, const runtime_api::command& taken, time_point at) {
    const auto* change = std::get_if<runtime_api::set_state>(&taken);
    if (change && change->state == admin_state::maint)
        timer.went_to_maint(member, at);
    if (change && change->state == admin_state::ready)
        timer.went_to_ready(member, at);
}

// The first stage of a plan: what can be sent before HAProxy must be looked at again.
std::vector<planned> first_stage(const std::vector<planned>& steps) {
    const auto end = std::ranges::find_if(steps, [&steps](const planned& p) { return p.when != steps.front().when; });
    return {steps.begin(), end};
}

event of_pool(const std::string& scope, const std::string& backend, std::string text) {
    return {.kind = "pool", .scope = scope, .subject = backend, .text = std::move(text)};
}

// What a command makes of a slot; empty: nothing worth telling.
struct change_of {
    const slot& before;

    std::string operator()(const runtime_api::set_state& to) const {
        return fmt::format("{} -> {}", to_string(before.admin), to_string(to.state));
    }
    std::string operator()(const runtime_api::set_address& to) const {
        return fmt::format("address {} -> {}", before.where ? to_string(*before.where) : "none", to_string(to.where));
    }
    std::string operator()(const runtime_api::set_weight& to) const {
        return fmt::format("weight {} -> {}", before.weight, to.weight);
    }
    std::string operator()(const runtime_api::set_check& to) const {
        return to.enabled ? "HAProxy's own check resumed" : "HAProxy's own check suspended";
    }
    std::string operator()(const runtime_api::shutdown_sessions&) const { return {}; }
    std::string operator()(const runtime_api::restore_health&) const { return {}; }
};

std::string describe_change(const slot& before, const std::vector<planned>& steps) {
    std::string text;
    bool cut = false;
    for (const planned& step : steps) {
        const std::string change = std::visit(change_of{before}, step.what);
        if (!change.empty())
            text += (text.empty() ? "" : ", ") + change;
        cut = cut || std::holds_alternative<runtime_api::shutdown_sessions>(step.what);
    }
    if (!text.empty())
        return text;
    return cut ? "its sessions are cut" : "as healthy as after checks that passed";
}

// What changes by itself is no reason to write the state file anew.
std::vector<slot> settled(std::vector<slot> slots) {
    for (slot& s : slots) {
        s.since_change = {};
        s.operational = {};
    }
    return slots;
}

} // namespace

// One pool of one cluster: what is remembered of it from pass to pass.
struct passes::pool {
    followed_cluster of;
    const config::pool_settings& settings;

    observed_pool observed{};
    std::map<slot_id, std::uint64_t> sessions{}; // as counted last
    placement where{};
    std::vector<desired_slot> desired{}; // empty: nothing is desired (yet)
    std::vector<planned> steps{};        // from observed to desired
    bool was_in_step{};                  // at the end of the last pass
    std::vector<desired_slot> settled{}; // what was desired then
    fault trouble{};                     // the last pass could not carry it out
    fault differs{};                     // and was not to
    failover_timer timer{};              // of a primary pool
    std::set<slot_id> uncut{};           // whose sessions were to be cut when the command for it failed
    bool check_is_new{};                 // another process has its slots: none has passed a check of it yet
    std::vector<slot> kept_slots{};      // whose rows are kept for the state file
    std::string kept_rows{};
    std::optional<std::set<slot_id>> ready_in_file{}; // in these rows; nullopt: nobody knows
    unsigned drifting{};                              // slots that drifted and are not seen to be right again
    pool_tally tally{};                               // since it was told
    bool tallied{};                                   // it was told at least once

    // Of the pass under way.
    bool failed{};
    int stages{};                   // sent
    std::vector<planned> sent{};    // the last of them
    std::vector<planned> sending{}; // the one that is being sent
    std::size_t taken{};            // how many of its commands HAProxy has taken
    int looks{};                    // at an address that has not changed yet

    const std::string& scope() const { return of.settings.scope; }
    const std::string& backend() const { return settings.backend; }
};

passes::passes(const std::vector<followed_cluster>& clusters, std::string haproxy) : haproxy_(std::move(haproxy)) {
    for (const followed_cluster& c : clusters) {
        for (const config::pool_settings& settings : c.settings.pools)
            pools_.push_back(pool{.of = c, .settings = settings});
    }
}

passes::~passes() = default;
passes::passes(passes&&) noexcept = default;

todo passes::begin(orders given) {
    orders_ = std::move(given);
    for (pool& p : pools_) {
        p.failed = false;
        p.stages = 0;
        p.sent.clear();
        p.looks = 0;
    }
    sending_.clear();
    waited_for_worker_ = 0;
    drift_reported_ = false;
    counted_ = false;
    return look{};
}

todo passes::seen(runtime_api::result<runtime_api::observation> what, time_point now) {
    if (what.has_error()) {
        if (what.error().kind == errc::stopping && waited_for_worker_ != worker_looks)
            return wait_for_new_worker();
        lose(what.error().detail, now);
        return rest{};
    }
    if (const auto lasted = trouble_.over(now))
        tell(severity::info,
             {.kind = "haproxy", .text = fmt::format("haproxy {}: answers again, {}", haproxy_, *lasted)});
    report_process(what->process);
    seen_ = std::move(*what);

    std::map<std::string, std::vector<slot>> backends;
    for (const slot& s : seen_->slots)
        backends[s.id.backend()].push_back(s);
    for (pool& p : pools_) {
        auto slots = backends.find(p.backend());
        take_slots(p, slots == backends.end() ? std::vector<slot>() : std::move(slots->second), now);
    }
    return look_at_pools(now);
}

bool passes::needs_count(const pool& p) {
    const bool drained = std::ranges::any_of(p.observed.slots, [](const slot& s) { //
        return s.admin == admin_state::drain;
    });
    return drained || std::ranges::any_of(p.steps, [](const planned& step) {
               return step.when == stage::take_away &&
                      std::holds_alternative<runtime_api::shutdown_sessions>(step.what);
           });
}

// Where the sessions could not be counted, drains go on.
todo passes::counted(const runtime_api::result<std::vector<runtime_api::server_statistics>>& what, time_point now) {
    counted_ = true;
    std::map<std::string, std::vector<std::pair<slot_id, std::uint64_t>>> backends;
    if (what.has_value()) {
        for (const auto& row : *what) {
            if (auto id = slot_id::parse(row.backend, row.server))
                backends[row.backend].emplace_back(std::move(*id), row.sessions);
        }
    }
    for (pool& p : pools_) {
        for (const auto& [id, sessions] : backends[p.backend()])
            p.observed.sessions.insert_or_assign(id, sessions);
        if (!p.observed.sessions.empty())
            p.sessions = p.observed.sessions;
        if (needs_count(p))
            decide(p, now);
    }
    return next_stage(now);
}

todo passes::look_at_pools(time_point now) {
    std::vector<const pool*> uncounted;
    for (pool& p : pools_) {
        decide(p, now);
        if (needs_count(p))
            uncounted.push_back(&p);
    }
    if (orders_.watched && !counted_)
        return count_sessions{};
    if (uncounted.empty())
        return next_stage(now);
    return count_sessions{uncounted.size() == 1 ? uncounted.front()->backend() : std::string()};
}

// Picks what every pool has to send first.
todo passes::next_stage(time_point now) {
    if (orders_.how != conduct::acts)
        return end(now);
    any_sent_ = false;
    waiting_ = false;
    for (pool& p : pools_) {
        if (p.failed || p.steps.empty())
            continue;
        if (!drift_reported_)
            report_drift(p);
        p.sending = first_stage(p.steps);
        p.taken = 0;
        if (p.sending == p.sent) { // HAProxy took these very commands, and the slots are as they were
            if (p.sending.front().when == stage::re_address && p.looks++ != address_looks)
                waiting_ = true;
            else
                give_up(p, fmt::format("HAProxy took `{}` but the slot did not change", render(p.sending.front().what)),
                        now);
        } else if (p.stages++ == most_stages) {
            give_up(p, fmt::format("still not in step after {} stages", most_stages), now);
        } else {
            sending_.push_back(&p);
        }
    }
    drift_reported_ = true;
    return next_batch(now);
}

todo passes::next_batch(time_point now) {
    if (sending_.empty()) {
        if (any_sent_)
            return look{};
        return waiting_ ? todo(look{address_wait}) : end(now);
    }
    const pool& p = *sending_.front();
    std::vector<runtime_api::command> commands;
    for (std::size_t i = p.taken; i != p.sending.size(); ++i)
        commands.push_back(p.sending[i].what);
    const auto batch = runtime_api::next_batch(commands);
    batch_ = batch.size();
    return send{{batch.begin(), batch.end()}};
}

todo passes::answered(const runtime_api::result<void>& what, time_point sent, time_point now) {
    pool& p = *sending_.front();
    const double took = std::chrono::duration<double, std::milli>(now - sent).count();
    for (std::size_t i = p.taken; i != p.taken + batch_; ++i) {
        const planned& step = p.sending[i];
        const auto owner = std::ranges::find(p.desired, slot_of(step.what), &desired_slot::id);
        const auto member = owner == p.desired.end() ? std::nullopt : owner->member;
        notes_.push_back(
            {what.has_value() ? severity::info : severity::error,
             fmt::format(R"(cluster {}: command="{}" member={} answer={} ms={:.2f} why="{}")", p.scope(),
                         render(step.what), name_of(member), what.has_value() ? "ok" : "failed", took, step.why)});
        ++(what.has_value() ? p.tally.commands : p.tally.failures);
        if (what.has_value() && std::holds_alternative<runtime_api::shutdown_sessions>(step.what))
            p.uncut.erase(slot_of(step.what));
        if (what.has_value() && member && !is_guard(p, step))
            time_failover(p.timer, *member, step.what, now);
    }
    record_answer(p, what.has_value(), took);
    if (what.has_error()) {
        if (what.error().kind == errc::stopping && waited_for_worker_ != worker_looks)
            return wait_for_new_worker();
        for (std::size_t i = p.taken; i != p.sending.size(); ++i) {
            const auto* cut = std::get_if<runtime_api::shutdown_sessions>(&p.sending[i].what);
            if (cut && !is_guard(p, p.sending[i]))
                p.uncut.insert(cut->slot);
        }
        give_up(p, printable(what.error().detail, 400), now);
        sending_.erase(sending_.begin());
        return next_batch(now);
    }
    any_sent_ = true;
    p.taken += batch_;
    if (p.taken == p.sending.size()) {
        if (p.sending.front().when == stage::give)
            p.check_is_new = false;
        p.sent = std::move(p.sending);
        p.looks = 0;
        sending_.erase(sending_.begin());
    }
    return next_batch(now);
}

// Whether it takes away what is seen to be away (keep_others_out): nothing that happened.
bool passes::is_guard(const pool& p, const planned& step) {
    const auto s = std::ranges::find(p.observed.slots, slot_of(step.what), &slot::id);
    const auto* change = std::get_if<runtime_api::set_state>(&step.what);
    const bool cuts = std::holds_alternative<runtime_api::shutdown_sessions>(step.what);
    return step.when == stage::give && (cuts || (change && change->state == s->admin));
}

// One event for each slot of the batch, in its order.
void passes::record_answer(const pool& p, bool taken, double took) {
    const auto begin = p.sending.begin() + static_cast<std::ptrdiff_t>(p.taken);
    const std::vector<planned> batch(begin, begin + static_cast<std::ptrdiff_t>(batch_));
    for (std::size_t i = 0; i != p.desired.size(); ++i) {
        const desired_slot& want = p.desired[i];
        std::vector<planned> its;
        std::ranges::copy_if(batch, std::back_inserter(its), [&p, &want](const planned& step) {
            return slot_of(step.what) == want.id && !is_guard(p, step);
        });
        if (its.empty())
            continue;
        event e{.how = taken ? severity::info : severity::error,
                .kind = "slot",
                .scope = p.scope(),
                .subject = to_string(want.id),
                .member = want.member ? printable(*want.member) : "",
                .text = describe_change(p.observed.slots[i], its),
                .why = its.front().why};
        for (const planned& step : its) {
            e.commands.push_back({render(step.what), taken, took});
            const auto sessions = p.observed.sessions.find(want.id);
            if (std::holds_alternative<runtime_api::shutdown_sessions>(step.what) &&
                sessions != p.observed.sessions.end())
                e.cut = sessions->second;
        }
        if (e.cut && *e.cut != 0)
            e.text += fmt::format("; {} session{} cut", *e.cut, *e.cut == 1 ? "" : "s");
        events_.push_back(std::move(e));
    }
}

// What an old worker was told counts for nothing.
todo passes::wait_for_new_worker() {
    ++waited_for_worker_;
    sending_.clear();
    for (pool& p : pools_)
        p.sent.clear();
    return look{worker_wait};
}

todo passes::end(time_point now) {
    for (pool& p : pools_) {
        p.was_in_step = !p.desired.empty() && p.steps.empty();
        p.settled = p.desired;
        if (p.was_in_step)
            p.tally.repaired += std::exchange(p.drifting, 0U);
        const auto lasted = p.was_in_step ? p.trouble.over(now) : std::nullopt;
        if (lasted)
            tell(severity::info, of_pool(p.scope(), p.backend(), "in step again, " + *lasted));
        report_difference(p, now);
    }
    keep_rows();
    return rest{};
}

bool passes::is_news(const runtime_api::result<runtime_api::process_info>& what) const {
    if (what.has_error())
        return !trouble_;
    return trouble_ || !seen_ || what->stopping || what->pid != seen_->process.pid ||
           what->start_time != seen_->process.start_time;
}

// A switchover that was scheduled begins and ends at its time, not at the next resync (R12).
time_point passes::next(time_point now) const {
    time_point at = now + resync_interval;
    for (const pool& p : pools_) {
        if (const auto change = next_change(p.of.state, now))
            at = std::min(at, *change);
    }
    return at;
}

// An orphan keeps the time at which it was first seen as one.
void passes::take_slots(pool& p, std::vector<slot> slots, time_point now) {
    observed_pool next{.slots = std::move(slots), .sessions = {}, .orphan_since = {}};
    for (const slot& s : next.slots) {
        const bool owned = std::ranges::any_of(p.where.slots, [&s](const auto& entry) { return entry.second == s.id; });
        if (owned || s.admin == admin_state::maint)
            continue;
        const auto since = p.observed.orphan_since.find(s.id);
        next.orphan_since.emplace(s.id, since == p.observed.orphan_since.end() ? now : since->second);
    }
    p.observed = std::move(next);
    for (const auto& [name, id] : p.where.slots) {
        const auto s = std::ranges::find(p.observed.slots, id, &slot::id);
        if (s == p.observed.slots.end() || s->admin != admin_state::ready)
            continue;
        if (const auto over = p.timer.seen_ready(name, now)) {
            event e = of_pool(p.scope(), p.backend(), describe(*over));
            e.kind = "failover";
            tell(severity::info, std::move(e));
            failovers_.push_back({p.scope(), p.backend(), *over});
        }
    }
}

struct passes::decision {
    placement where{};
    std::vector<desired_slot> desired{};
    std::vector<planned> steps{};
};

// Nothing where there is nothing to decide by.
passes::decision passes::decide_slots(const pool& p, time_point now) {
    const cluster& c = p.of.state;
    decision result;
    if (!c.known || c.members.empty() || p.observed.slots.empty())
        return result; // R5: nothing known is not nothing there
    std::vector<candidate> candidates;
    for (const auto& [name, m] : c.members) {
        const bool leader = c.last_leader == name;
        candidates.push_back(
            {name, address_of(m, p.settings), leader, leader && p.settings.role == config::pool_role::primary});
    }
    result.where = place(p.observed.slots, std::move(candidates), p.where);
    result.desired =
        desire(p.of.settings, p.settings, c, p.observed, result.where, readable(c, p.of.poll_interval, now), now);
    result.steps = plan(p.observed.slots, result.desired);
    cut_what_is_uncut(p, result);
    trust_new_process(p, result);
    keep_others_out(p, result);
    return result;
}

// The slot may be in maint by now, and nothing in it tells that its sessions were to go with it (R10).
void passes::cut_what_is_uncut(const pool& p, decision& next) {
    for (const desired_slot& want : next.desired) {
        const runtime_api::command cut = runtime_api::shutdown_sessions{want.id};
        if (want.cut && p.uncut.contains(want.id) && !std::ranges::count(next.steps, cut, &planned::what))
            next.steps.insert(next.steps.begin(), {stage::take_away, cut, want.why});
    }
}

// What HAProxy has restored from its state file is UP with the health of a slot that has just left maint: until a check
// of the new process has passed, one that fails takes it down and cuts its sessions (seen on 2.6.12).
void passes::trust_new_process(const pool& p, decision& next) {
    if (!p.check_is_new)
        return;
    for (std::size_t i = 0; i != next.desired.size(); ++i) {
        const slot& s = p.observed.slots[i];
        const runtime_api::command full_health = runtime_api::restore_health{s.id};
        if (s.admin == admin_state::ready && next.desired[i].state == admin_state::ready && s.check_configured &&
            !std::ranges::count(next.steps, full_health, &planned::what))
            next.steps.push_back({stage::give, full_health, "R3: one failed check is not enough"});
    }
}

// A HAProxy that is replaced between the last look and the next line comes up with what its state file says: whoever is
// ready there is taken out by the very line that gives the new writer its slot (R2).
void passes::keep_others_out(const pool& p, decision& next) {
    const auto gives = std::ranges::find_if(next.steps, [](const planned& step) {
        const auto* change = std::get_if<runtime_api::set_state>(&step.what);
        return change && change->state == admin_state::ready;
    });
    if (p.settings.role != config::pool_role::primary || gives == next.steps.end() ||
        next.steps.front().when != stage::give)
        return;
    std::vector<planned> guards;
    for (const desired_slot& other : next.desired) {
        const bool may_be_ready = p.ready_in_file ? p.ready_in_file->contains(other.id) : other.member.has_value();
        if (!may_be_ready || other.state == admin_state::ready)
            continue;
        const std::string why = "R2: nobody beside the writer, whichever process reads this";
        guards.push_back({stage::give, runtime_api::set_state{other.id, other.state}, why});
        if (other.cut)
            guards.push_back({stage::give, runtime_api::shutdown_sessions{other.id}, why});
    }
    next.steps.insert(next.steps.begin(), guards.begin(), guards.end());
}

void passes::decide(pool& p, time_point now) {
    p.desired.clear();
    p.steps.clear();
    const cluster& c = p.of.state;
    if (p.settings.role == config::pool_role::primary)
        p.timer.look(c, check_of(p.settings));
    if (p.observed.slots.empty()) {
        give_up(p,
                fmt::format("HAProxy has no backend {} with slots: add it to haproxy.cfg (`pointsman haproxy-config` "
                            "prints it); nothing is routed there",
                            p.backend()),
                now);
        return;
    }
    decision next = decide_slots(p, now);
    if (next.desired.empty())
        return;
    report_placement(p, next.where);
    p.where = std::move(next.where);
    p.desired = std::move(next.desired);
    p.steps = std::move(next.steps);
    for (const desired_slot& want : p.desired) {
        if (!want.cut)
            p.uncut.erase(want.id);
    }
    p.check_is_new = p.check_is_new && !p.steps.empty();
}

void passes::report_placement(const pool& p, const placement& next) {
    for (const std::string& name : next.without_slot) {
        if (!std::ranges::count(p.where.without_slot, name))
            tell(severity::error,
                 of_pool(p.scope(), p.backend(),
                         fmt::format("no free slot for member {}: it is not served; more slots are needed in "
                                     "haproxy.cfg (server-template)",
                                     printable(name))));
    }
    for (const auto& [name, other] : next.same_address) {
        if (!p.where.same_address.contains(name))
            tell(severity::warning, of_pool(p.scope(), p.backend(),
                                            fmt::format("member {} has the address of {} and gets no slot of its own",
                                                        printable(name), printable(other))));
    }
}

// Drift: the pool was in step, what is desired of a slot is the same as then, and yet the slot differs.
void passes::report_drift(pool& p) {
    if (!p.was_in_step || p.settled.size() != p.desired.size())
        return;
    for (std::size_t i = 0; i != p.desired.size(); ++i) {
        const desired_slot& want = p.desired[i];
        const desired_slot& before = p.settled[i];
        // The weight of a slot without a configured one is of interest only when somebody has set it to 0.
        const bool same_weight = want.weight == before.weight || (!before.weight && p.observed.slots[i].weight == 0);
        const bool same =
            want.where == before.where && want.state == before.state && same_weight && want.check == before.check;
        const bool differs = std::ranges::any_of(p.steps, [&want](const planned& s) {
            return slot_of(s.what) == want.id && !std::holds_alternative<runtime_api::restore_health>(s.what);
        });
        if (!same || !differs)
            continue;
        ++p.tally.drifts;
        ++p.drifting;
        tell(severity::warning, of_pool(p.scope(), p.backend(),
                                        fmt::format("slot {} drifted: somebody else changed it, or HAProxy was "
                                                    "restarted; putting it back to {}",
                                                    to_string(want.id), to_string(want.state))));
    }
}

// While the plan is not carried out: that it would be.
void passes::report_difference(pool& p, time_point now) {
    if (orders_.how == conduct::acts || p.desired.empty()) {
        p.differs = {};
    } else if (p.steps.empty()) {
        if (const auto lasted = p.differs.over(now))
            tell(severity::info, of_pool(p.scope(), p.backend(), "as it would be, " + *lasted));
    } else {
        std::string text = fmt::format(
            "{}: {} command(s) would be sent:", orders_.how == conduct::paused ? "paused" : "shadow", p.steps.size());
        for (std::size_t i = 0; i != std::min(p.steps.size(), most_told); ++i)
            text += fmt::format(" `{}` ({})", render(p.steps[i].what), p.steps[i].why);
        if (p.steps.size() > most_told)
            text += " ... (`pointsman plan` has all)";
        if (const auto told = p.differs.seen(std::move(text), now))
            tell(severity::warning, of_pool(p.scope(), p.backend(), told->text), told->news);
    }
}

void passes::give_up(pool& p, std::string why, time_point now) {
    p.failed = true;
    const auto told = p.trouble.seen(std::move(why), now);
    if (!told)
        return;
    event e = of_pool(p.scope(), p.backend(),
                      fmt::format("{}; trying again every {} s", told->text, resync_interval.count()));
    tell(severity::error, std::move(e), told->news);
}

void passes::lose(const std::string& why, time_point now) {
    if (const auto told = trouble_.seen(printable(why, 300), now))
        tell(severity::error,
             {.kind = "haproxy", .text = told->text + "; no slot can be changed until it answers, trying on"},
             told->news);
}

void passes::report_process(const runtime_api::process_info& next) {
    if (!seen_)
        tell(severity::info,
             {.kind = "haproxy",
              .text = fmt::format("haproxy {}: version {}, process {}", haproxy_, next.version, next.pid)});
    if (!seen_ || (seen_->process.pid == next.pid && seen_->process.start_time == next.start_time))
        return;
    ++process_changes_;
    tell(severity::warning,
         {.kind = "haproxy",
          .text = fmt::format("haproxy {}: another process: {} instead of {}: it was reloaded or restarted, its slots "
                              "are checked",
                              haproxy_, next.pid, seen_->process.pid)});
    for (pool& p : pools_) {
        p.sent.clear(); // what the other one was told counts for nothing
        p.uncut.clear();
        p.check_is_new = true;
        p.kept_slots.clear(); // whoever restarted HAProxy may have removed the file too
    }
}

// A pool that is being changed keeps the rows that it had: others would bring back what is being undone.
void passes::keep_rows() {
    std::optional<runtime_api::state_rows> rows;
    for (pool& p : pools_) {
        const bool right = p.was_in_step || (p.desired.empty() && p.kept_rows.empty());
        auto slots = settled(p.observed.slots);
        if (!right || slots == p.kept_slots)
            continue;
        if (!rows)
            rows = runtime_api::restorable_rows(seen_->dump);
        state_head_ = rows->head;
        p.kept_slots = std::move(slots);
        p.kept_rows = std::move(rows->of_backend[p.backend()]);
        p.ready_in_file.emplace();
        for (const slot& s : p.kept_slots) {
            if (s.admin == admin_state::ready)
                p.ready_in_file->insert(s.id);
        }
        state_changed_ = true;
    }
}

std::optional<std::string> passes::state_file() {
    if (!std::exchange(state_changed_, false))
        return std::nullopt;
    std::string text = state_head_;
    for (const pool& p : pools_)
        text += p.kept_rows;
    return text;
}

session_rules passes::rules_of_sessions() const {
    session_rules rules;
    if (orders_.how != conduct::acts)
        return rules;
    for (const pool& p : pools_) {
        session_rule rule;
        bool writer = false;
        for (std::size_t i = 0; i < p.desired.size(); ++i) {
            const desired_slot& d = p.desired[i];
            const auto& where = d.where ? d.where : p.observed.slots[i].where;
            if (!d.member || !where)
                continue;
            rule.ends.insert_or_assign(*where, d.cut);
            writer = writer || d.state == admin_state::ready;
        }
        rule.others_end = writer && p.settings.role == config::pool_role::primary;
        rules.insert_or_assign(p.backend(), std::move(rule));
    }
    return rules;
}

std::vector<slot_row> passes::rows() const {
    std::vector<slot_row> result;
    for (const pool& p : pools_) {
        for (std::size_t i = 0; i != p.observed.slots.size(); ++i) {
            slot_row row = row_of(p.observed.slots[i]);
            const auto sessions = p.sessions.find(p.observed.slots[i].id);
            if (sessions != p.sessions.end())
                row.sessions = sessions->second;
            if (i < p.desired.size()) {
                const desired_slot& want = p.desired[i];
                row.member = want.member;
                row.desired = std::string(to_string(want.state));
                row.in_step =
                    std::ranges::none_of(p.steps, [&want](const planned& s) { return slot_of(s.what) == want.id; });
                row.why = want.why;
            }
            result.push_back(std::move(row));
        }
    }
    return result;
}

std::vector<followed_cluster> passes::clusters() const {
    std::vector<followed_cluster> result;
    for (const pool& p : pools_) {
        if (result.empty() || &result.back().state != &p.of.state)
            result.push_back(p.of);
    }
    return result;
}

std::vector<pool_outlook> passes::outlook(time_point now) const {
    std::vector<pool_outlook> result;
    for (const pool& p : pools_) {
        decision next = decide_slots(p, now);
        result.push_back({p.of, p.settings, p.observed.slots, p.sessions, std::move(next.desired),
                          std::move(next.steps), next.where.without_slot.size(), p.trouble.text()});
    }
    return result;
}

notes passes::take_notes() {
    return std::exchange(notes_, {});
}

events passes::take_events() {
    return std::exchange(events_, {});
}

std::vector<ended_failover> passes::take_failovers() {
    return std::exchange(failovers_, {});
}

std::vector<pool_tally> passes::take_tallies() {
    std::vector<pool_tally> result;
    for (pool& p : pools_) {
        if (p.tally == pool_tally{} && p.tallied)
            continue;
        p.tallied = true;
        pool_tally& t = result.emplace_back(std::exchange(p.tally, {}));
        t.scope = p.scope();
        t.backend = p.backend();
    }
    return result;
}

unsigned passes::take_process_changes() {
    return std::exchange(process_changes_, 0U);
}

void passes::tell(severity how, event what, bool news) {
    const std::string where = what.scope.empty() ? "" : fmt::format("cluster {}: pool {}: ", what.scope, what.subject);
    notes_.push_back({how, where + what.text});
    what.how = how;
    if (news)
        events_.push_back(std::move(what));
}

} // namespace pointsman::agent
