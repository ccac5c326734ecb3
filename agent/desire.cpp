// Pure: see desire.hpp.
#include "agent/desire.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace pointsman::agent {

namespace {

using config::pool_role;
using runtime_api::slot;

struct wish {
    admin_state state{};
    std::string why;
    std::string_view until;
    bool cut{};
    bool check{true};
};

wish serve(std::string why, std::string_view until) {
    return {admin_state::ready, std::move(why), until, false, true};
}
wish keep_unchecked(std::string why, std::string_view until) {
    return {admin_state::ready, std::move(why), until, false, false};
}
wish stand_by(std::string why, std::string_view until) {
    return {admin_state::maint, std::move(why), until, false, true};
}
wish cut_off(std::string why, std::string_view until) {
    return {admin_state::maint, std::move(why), until, true, true};
}

// What would change a decision (`desired_slot::until`), where several share it.
constexpr std::string_view writer_leaves =
    "the leader key naming another member, a second no, a body that says otherwise, the death of its node, or a "
    "switchover away from it";
constexpr std::string_view becomes_leader = "the leader key naming it, and after that a yes of its node";
constexpr std::string_view an_answer = "an answer of its node, or 30 s without one";
constexpr std::string_view reader_leaves = "a no of its node, its death, or silence while others answer";
constexpr std::string_view two_yeses = "two yeses of its node in a row";
constexpr std::string_view first_probe = "its first probe";

bool in_service(const slot& s) {
    return s.admin == admin_state::ready;
}

// One pool's members beside the slots that they have.
struct scene {
    const config::pool_settings& pool;
    check primary_check; // how this cluster tells who is writable
    const cluster& c;
    const observed_pool& observed;
    std::map<std::string, const slot*> slots; // of placed members
    bool etcd_readable{};
    time_point now{};

    const slot* slot_of(const std::string& name) const {
        const auto it = slots.find(name);
        return it == slots.end() ? nullptr : it->second;
    }

    const health* health_of(const std::string& name, const check& what) const {
        const auto it = c.members.find(name);
        return it == c.members.end() ? nullptr : find_health(it->second, what);
    }

    bool key_names(const std::string& name) const { return etcd_readable && c.leader && c.leader->name == name; }
    bool key_names_another(const std::string& name) const {
        return etcd_readable && c.leader && c.leader->name != name;
    }
};

// The drain of what can wait (R10) has ended once no session is left: then the slot goes to maint. HAProxy's own check
// is suspended meanwhile: it finds such a member unfit too, and would cut the sessions that the drain is for.
wish drain(const scene& s, const slot& at, std::string why, std::string_view until) {
    if (at.admin == admin_state::maint)
        return stand_by(std::move(why), until);
    const auto sessions = s.observed.sessions.find(at.id);
    if (at.admin == admin_state::drain && sessions != s.observed.sessions.end() && sessions->second == 0)
        return stand_by(std::move(why), until);
    return {admin_state::drain, std::move(why), until, false, false};
}

wish as_it_is(const slot& at, std::string why, std::string_view until) {
    return {at.admin, std::move(why), until, false, true};
}

// As it is, and HAProxy's own check suspended: it says no as well by now, and with three in a row it would cut the
// sessions of a member that is held (R3).
wish hold_unchecked(const slot& at, std::string why, std::string_view until) {
    wish w = as_it_is(at, std::move(why), until);
    w.check = at.admin == admin_state::maint;
    return w;
}

// --- primary pools

// A writer that is asked to leave. Not to maint when it has no session: from there only a yes would bring it back
// (R12).
wish stand_back() {
    return {admin_state::drain, "R12: a switchover away from it was asked for",
            "the new leader's key, the end of the request, or 15 s", false, false};
}

// Whether any other member's node says that it is the writer.
bool another_says_yes(const scene& s, const std::string& name) {
    return std::ranges::any_of(s.c.members, [&s, &name](const auto& other) {
        const health* theirs = find_health(other.second, s.primary_check);
        return other.first != name && theirs && says(*theirs, answer::yes);
    });
}

// Whether the member that has a slot in service keeps it (R2, R3): everything but the leader key naming another.
wish keep_or_drop_writer(const scene& s, const std::string& name, const slot& at, const health* h) {
    if (s.key_names_another(name))
        return cut_off("R2: the leader key names another member", becomes_leader);
    if (!h)
        return as_it_is(at, "R15: kept as found until it is probed", first_probe);
    switch (h->last.what) {
        case answer::yes:
            if (is_leaving(s.c, name, s.now))
                return stand_back();
            return serve(s.key_names(name) ? "R2: leader, and its node says that it is a running primary"
                                           : "R2: the leader key is gone or unreadable, and its node says yes",
                         writer_leaves);
        case answer::no:
            switch (h->last.how) {
                case refusal::dead:
                    return cut_off("R3: dead: REST silent and the PostgreSQL port refuses", becomes_leader);
                case refusal::otherwise: return cut_off("R2: its node says otherwise: " + describe(*h), becomes_leader);
                case refusal::stopping: return drain(s, at, "R12: PostgreSQL is being stopped", becomes_leader);
                case refusal::soft: break;
            }
            if (h->in_a_row < 2 || s.now - h->since < (another_says_yes(s, name) ? second_no : lone_no))
                return hold_unchecked(at, "R2: held on a first no: " + describe(*h),
                                      "a yes, or a second no: 1 s after the first where another member says yes, else "
                                      "5 s");
            return cut_off("R2: a second no: " + describe(*h), becomes_leader);
        case answer::unknown: break;
    }
    const bool named = s.etcd_readable ? s.key_names(name) : s.c.last_leader == name;
    if (h->last.gone)
        return drain(s, at, "R3: nothing of it answers, new connections wait: " + describe(*h),
                     "an answer of its node, or the leader key naming another member");
    if (is_leaving(s.c, name, s.now))
        return stand_back();
    // A drain that has ended for other reasons ends here too, unless PostgreSQL was being stopped when it last said so.
    const bool was_running = h->body && h->body->state == "running";
    const bool serves = in_service(at) || (at.admin == admin_state::drain && was_running);
    if (named && serves && s.now - h->since < unknown_grace)
        return keep_unchecked("R3: kept on an unknown answer: " + describe(*h), an_answer);
    return drain(s, at, "R3: unknown for too long or no longer leader: " + describe(*h), becomes_leader);
}

// Whether a member may become the writer: the leader key names it, and a probe that was sent after the key was seen
// says yes; without a readable etcd, the only one that says yes (R4).
bool may_become_writer(const scene& s, const std::string& name) {
    const health* h = s.health_of(name, s.primary_check);
    if (!h || !says(*h, answer::yes) || is_leaving(s.c, name, s.now))
        return false;
    if (s.etcd_readable)
        return s.key_names(name) && h->sent >= s.c.leader_since;
    return !another_says_yes(s, name);
}

std::string why_not_writer(const scene& s, const std::string& name) {
    const health* h = s.health_of(name, s.primary_check);
    if (!h)
        return "not probed yet";
    if (!s.key_names(name))
        return "not the leader";
    if (is_leaving(s.c, name, s.now))
        return "R12: a switchover away from it was asked for";
    return "R2: leader, but not writable yet: " + describe(*h);
}

// Of several that may stay, one does: of those in service (several are somebody else's doing) the leader's, else one
// that says yes, else the first. One that is drained comes back only where none is in service: the one already in stays
// (R2).
std::string one_writer(const scene& s, std::vector<std::string> holders) {
    if (std::ranges::any_of(holders, [&s](const auto& name) { return in_service(*s.slot_of(name)); }))
        std::erase_if(holders, [&s](const auto& name) { return !in_service(*s.slot_of(name)); });
    const auto named = std::ranges::find_if(holders, [&s](const auto& name) { return s.c.last_leader == name; });
    if (named != holders.end())
        return *named;
    const auto yes = std::ranges::find_if(holders, [&s](const auto& name) {
        const health* h = s.health_of(name, s.primary_check);
        return h && says(*h, answer::yes);
    });
    return yes != holders.end() ? *yes : holders.front();
}

std::map<std::string, wish> primary_wishes(const scene& s) {
    std::map<std::string, wish> result;
    std::vector<std::string> holders;
    for (const auto& [name, at] : s.slots) {
        if (at->admin == admin_state::maint)
            continue;
        wish w = keep_or_drop_writer(s, name, *at, s.health_of(name, s.primary_check));
        if (w.state == admin_state::ready)
            holders.push_back(name);
        result.emplace(name, std::move(w));
    }
    if (holders.size() > 1) {
        const std::string stays = one_writer(s, holders);
        for (const std::string& name : holders) {
            if (name == stays)
                continue;
            const std::string why = "R2: another slot is the writer's";
            const slot& at = *s.slot_of(name);
            // One that is drained may be the leader still: nobody has said that it is demoted (R10).
            result[name] = in_service(at) ? cut_off(why, becomes_leader) : drain(s, at, why, becomes_leader);
        }
        holders = {stays};
    }
    for (const auto& [name, at] : s.slots) {
        if (result.contains(name))
            continue;
        if (holders.empty() && may_become_writer(s, name)) {
            holders.push_back(name);
            result.emplace(name, serve(s.etcd_readable ? "R2: leader, and its node says that it is a running primary"
                                                       : "R4: etcd unreadable, the only member that says yes",
                                       writer_leaves));
        } else {
            wish w = stand_by(why_not_writer(s, name), becomes_leader);
            w.cut = keep_or_drop_writer(s, name, *at, s.health_of(name, s.primary_check)).cut;
            result.emplace(name, std::move(w));
        }
    }
    return result;
}

// --- replica pools

bool says_yes(const scene& s, const std::string& name) {
    const health* h = s.health_of(name, check_of(s.pool));
    return h && says(*h, answer::yes);
}

wish replica_wish(const scene& s, const std::string& name, const slot& at) {
    const health* h = s.health_of(name, check_of(s.pool));
    if (!h)
        return as_it_is(at, "R15: kept as found until it is probed", first_probe);
    switch (h->last.what) {
        case answer::yes:
            if (in_service(at))
                return serve("R1: its node says yes", reader_leaves);
            if (h->in_a_row < 2)
                return as_it_is(at, "R3: a first yes, waiting for the second", "one more yes of its node");
            if (!follows_leader(s.c, name) && s.now - h->since < rewind_hold)
                return as_it_is(at, "R3: not on the leader's timeline yet",
                                "its timeline reaching the leader's, or 10 s of saying yes");
            return serve("R1: its node says yes", reader_leaves);
        case answer::no:
            if (h->last.how == refusal::dead)
                return cut_off("R3: dead: REST silent and the PostgreSQL port refuses", two_yeses);
            return drain(s, at, "R1: its node says no: " + describe(*h), two_yeses);
        case answer::unknown: break;
    }
    // One that does not answer stands back for those that do (R10: drained, no session cut); when nobody answers the
    // fault is more likely ours or the network's, and the last answer is kept for the grace time (R3).
    const bool others = std::ranges::any_of(s.slots, [&s, &name](const auto& other) {
        return other.first != name && in_service(*other.second) && says_yes(s, other.first);
    });
    if (in_service(at) && !others && !h->last.gone && s.now - h->since < unknown_grace)
        return keep_unchecked("R3: kept on an unknown answer: " + describe(*h), an_answer);
    return drain(s, at, "R3: unknown: " + describe(*h), two_yeses);
}

// Reads go to the primary while no replica is fit (`fallback: primary`), and stay there until one is.
void fall_back(const scene& s, std::map<std::string, wish>& wishes) {
    const bool fit =
        std::ranges::any_of(wishes, [](const auto& entry) { return entry.second.state == admin_state::ready; });
    if (fit)
        return;
    for (auto& [name, w] : wishes) {
        const slot* at = s.slot_of(name);
        const health* h = s.health_of(name, s.primary_check);
        const bool writable = h && says(*h, answer::yes) && (s.key_names(name) || !s.etcd_readable || !s.c.leader);
        const bool held = in_service(*at) && h && !s.key_names_another(name) &&
                          (says(*h, answer::unknown) ? !h->last.gone : h->last.how == refusal::soft) && !w.cut;
        if (writable || held) {
            w = serve("fallback: no replica is fit, reads go to the primary", "a replica that is fit");
            return;
        }
    }
}

// --- both

std::optional<runtime_api::address> address_of(const scene& s, const std::string& name) {
    const auto it = s.c.members.find(name);
    if (it == s.c.members.end())
        return std::nullopt;
    return agent::address_of(it->second, s.pool);
}

// A slot that is no member's. Free slots rest in maint. One in service was given by somebody else, or belongs to a
// member that etcd has lost: it is left alone until the cluster shows itself whole again, then goes (R5). In a primary
// pool it goes as soon as a member is the writer, whatever etcd says: two slots are never ready (R2).
desired_slot desire_orphan(const scene& s, const slot& at, bool writer) {
    desired_slot d{.id = at.id,
                   .member = {},
                   .where = {},
                   .state = at.admin,
                   .weight = {},
                   .check = true,
                   .cut = {},
                   .why = {},
                   .until = "a member with its address"};
    const bool doubled =
        std::ranges::any_of(s.slots, [&at](const auto& entry) { return at.where && entry.second->where == at.where; });
    if (doubled) {
        d.state = admin_state::maint;
        d.why = "R6: another slot has this address";
        d.until = "a member without a slot";
        if (s.pool.role == pool_role::replica) { // R10: its sessions are with a member, too
            const wish w = drain(s, at, d.why, d.until);
            d.state = w.state;
            d.check = w.check;
        }
        if (d.state == admin_state::maint)
            d.where = runtime_api::address::parse("127.0.0.1", 1);
        return d;
    }
    if (at.admin == admin_state::maint) {
        d.why = "free";
        d.until = "a member without a slot";
        return d;
    }
    d.why = "R5: its address belongs to no known member, left as found";
    // Not that the leader has a slot: there may be none for it until this one goes.
    const bool whole = s.etcd_readable && s.c.leader && address_of(s, s.c.leader->name);
    if (s.pool.role == pool_role::primary && (whole || writer)) {
        d.state = admin_state::maint;
        d.cut = true;
        d.why = whole ? "R2: the leader key names another member" : "R2: another slot is the writer's";
        return d;
    }
    if (!whole)
        return d;
    const auto since = s.observed.orphan_since.find(at.id);
    if (since != s.observed.orphan_since.end() && s.now - since->second >= orphan_hold) {
        wish w = drain(s, at, "R10: its address belongs to no member", d.until);
        d.state = w.state;
        d.check = w.check;
        d.why = std::move(w.why);
        d.until = w.until;
    }
    return d;
}

std::optional<unsigned> weight_of(const scene& s, const std::string& name, const slot& at, admin_state state) {
    if (state != admin_state::ready)
        return std::nullopt; // a slot out of service is not worth a command
    // With the weight 0, which only somebody's hand gives, it would be out of service all the same.
    const auto declared = at.weight == 0 ? std::optional(at.initial_weight) : std::nullopt;
    if (!s.pool.weight)
        return declared;
    if (s.pool.role == pool_role::primary || !s.pool.weight->lag)
        return s.pool.weight->base;
    const auto lag = lag_behind(s.c, name);
    return lag ? std::optional(weigh(*s.pool.weight, *lag, at.weight)) : declared;
}

} // namespace

std::vector<desired_slot> desire(const config::cluster_settings& settings, const config::pool_settings& pool,
                                 const cluster& c, const observed_pool& observed, const placement& where,
                                 bool etcd_readable, time_point now) {
    scene s{pool, check_of(pool), c, observed, {}, etcd_readable, now};
    const auto primary = std::ranges::find(settings.pools, pool_role::primary, &config::pool_settings::role);
    if (pool.role == pool_role::replica && primary != settings.pools.end())
        s.primary_check = check_of(*primary);

    std::map<slot_id, std::string> members;
    for (const slot& at : observed.slots) {
        for (const auto& [name, id] : where.slots) {
            if (id == at.id) {
                s.slots.emplace(name, &at);
                members.emplace(id, name);
            }
        }
    }

    std::map<std::string, wish> wishes;
    if (pool.role == pool_role::primary) {
        wishes = primary_wishes(s);
    } else {
        for (const auto& [name, at] : s.slots)
            wishes.emplace(name, replica_wish(s, name, *at));
        if (pool.fallback_primary)
            fall_back(s, wishes);
    }

    const bool writer =
        std::ranges::any_of(wishes, [](const auto& entry) { return entry.second.state == admin_state::ready; });
    std::vector<desired_slot> result;
    result.reserve(observed.slots.size());
    for (const slot& at : observed.slots) {
        const auto owner = members.find(at.id);
        if (owner == members.end()) {
            result.push_back(desire_orphan(s, at, writer));
            continue;
        }
        const std::string& name = owner->second;
        wish& w = wishes.at(name);
        desired_slot d{.id = at.id,
                       .member = name,
                       .where = address_of(s, name),
                       .state = w.state,
                       .weight = {},
                       .check = w.check,
                       .cut = w.cut,
                       .why = std::move(w.why),
                       .until = w.until};
        const bool moves = d.where && d.where != at.where;
        const check asked = pool.role == pool_role::primary ? s.primary_check : check_of(pool);
        if (moves && !s.health_of(name, asked)) {
            d.state = admin_state::maint;
            d.why = "R6: re-addressed, not probed there yet";
            d.until = first_probe;
        }
        d.weight = weight_of(s, name, at, d.state);
        result.push_back(std::move(d));
    }
    return result;
}

unsigned weigh(const config::weight_settings& settings, std::uint64_t lag, unsigned current) {
    if (!settings.lag || lag <= settings.lag->from)
        return settings.base;
    const auto [from, to] = *settings.lag;
    const double left = lag >= to ? 0.0 : static_cast<double>(to - lag) / static_cast<double>(to - from);
    const auto target = std::max(1U, static_cast<unsigned>(std::lround(left * settings.base)));
    const unsigned difference = target > current ? target - current : current - target;
    const bool worth_it = difference * 8 >= settings.base || current > settings.base;
    return worth_it ? target : current;
}

} // namespace pointsman::agent
