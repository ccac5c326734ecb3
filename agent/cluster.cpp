// Pure: see cluster.hpp.
#include "agent/cluster.hpp"

#include <algorithm>

namespace pointsman::agent {

namespace {

using namespace std::chrono_literals;

// The distance of two probes of a node whose next answer decides where writes go: short, but never so short that one
// agent takes more than a third of what the REST API can answer, for it is being promoted meanwhile (facts 2.1).
constexpr auto shortest_deciding = 8ms;
constexpr auto longest_deciding = 100ms;
constexpr auto watching = 200ms;

std::chrono::milliseconds deciding(const health& h) {
    return std::clamp(std::chrono::duration_cast<std::chrono::milliseconds>(2 * h.latency), shortest_deciding,
                      longest_deciding);
}

// How long a change of the leader key is followed at short intervals; promotion takes 0.2 to 1.2 s (facts 1.4), a
// crashed one several seconds.
constexpr auto change_lasts = 15s;
constexpr auto promotion_lasts = 60s;

bool changed_itself(const etcd_http::member_record& before, const etcd_http::member_record& now) {
    return before.state != now.state || before.role != now.role || before.rest != now.rest ||
           before.connect != now.connect;
}

bool is_dead(const member& m) {
    return !m.probes.empty() && std::ranges::all_of(m.probes, [](const auto& probe) {
        return says(probe.second, answer::no) && probe.second.last.how == refusal::dead;
    });
}

// Counted in milliseconds, and bounded: the year 9999 is beyond what a clock of nanoseconds holds.
std::chrono::milliseconds wait_until(std::chrono::sys_time<std::chrono::milliseconds> when,
                                     std::chrono::system_clock::time_point wall) {
    using namespace std::chrono;
    constexpr milliseconds longest = years(100);
    return std::clamp(when - floor<milliseconds>(wall), milliseconds(0), longest);
}

std::optional<std::uint64_t> timeline_of(const cluster& c, const std::string& name) {
    const auto it = c.members.find(name);
    std::optional<std::uint64_t> newest;
    if (it == c.members.end())
        return newest;
    for (const auto& [what, h] : it->second.probes) {
        if (h.body && h.body->timeline)
            newest = std::max(newest.value_or(0), *h.body->timeline);
    }
    return newest;
}

// Of its newest complete answer.
std::optional<std::uint64_t> wal_of(const cluster& c, const std::string& name) {
    const auto it = c.members.find(name);
    const health* newest = nullptr;
    if (it == c.members.end())
        return std::nullopt;
    for (const auto& [what, h] : it->second.probes) {
        if (h.body && h.body->wal && (!newest || h.sent > newest->sent))
            newest = &h;
    }
    return newest ? newest->body->wal : std::nullopt;
}

bool says_yes(const member& m) {
    return std::ranges::any_of(m.probes, [](const auto& probe) { return says(probe.second, answer::yes); });
}

} // namespace

std::set<check> checks_of(const config::cluster_settings& settings) {
    std::set<check> result;
    for (const auto& pool : settings.pools)
        result.insert(check_of(pool));
    return result;
}

view_change take_view(cluster& c, const etcd_http::cluster_view& view, time_point now,
                      std::chrono::system_clock::time_point wall) {
    view_change change;
    if (view.leader != c.leader) {
        change.leader = true;
        c.leader_since = now;
        c.leader = view.leader;
    }
    if (view.leader)
        c.last_leader = view.leader->name;
    c.known = true;
    c.optime = view.optime;
    if (!view.switchover) {
        c.asked.reset();
    } else if (!c.asked || c.asked->revision != view.switchover->revision) {
        time_point starts = now;
        if (view.switchover->scheduled_at)
            starts += wait_until(*view.switchover->scheduled_at, wall);
        c.asked = switchover{view.switchover->leader, starts, view.switchover->revision};
    }

    for (auto& [name, known] : c.members) {
        if (known.present && !view.members.contains(name)) {
            known.present = false;
            known.absent_since = now;
            change.probe.push_back(name);
        }
    }
    for (const auto& [name, record] : view.members) {
        const auto [it, is_new] = c.members.try_emplace(name);
        member& known = it->second;
        if (is_new || !known.present || changed_itself(known.record, record))
            change.probe.push_back(name);
        if (known.record.rest != record.rest)
            known.probes.clear();
        known.present = true;
        known.record = record;
    }
    std::ranges::sort(change.probe);
    return change;
}

bool is_leaving(const cluster& c, const std::string& name, time_point now) {
    return c.asked && c.asked->leader == name && now >= c.asked->starts && now < c.asked->starts + switchover_lasts;
}

std::optional<time_point> next_change(const cluster& c, time_point now) {
    if (!c.asked || now >= c.asked->starts + switchover_lasts)
        return std::nullopt;
    return now < c.asked->starts ? c.asked->starts : c.asked->starts + switchover_lasts;
}

probe_change take_outcome(cluster& c, const std::set<check>& checks, const std::string& name, const std::string& path,
                          const outcome& o) {
    probe_change change;
    for (const check& what : checks) {
        if (what.path != path)
            continue;
        health& h = c.members.at(name).probes[what];
        const bool answered = h.answered;
        const verdict before = h.last;
        const bool followed = follows_leader(c, name);
        // R2: no yes of before makes a writer.
        const bool first_of_term = h.sent < c.leader_since && o.sent >= c.leader_since;
        step(h, what.role, o);
        change.decides = change.decides || !answered || before != h.last || h.in_a_row == 2 || first_of_term ||
                         followed != follows_leader(c, name);
        if (!answered || before.what != h.last.what)
            change.turned.push_back(what);
    }
    return change;
}

void set_addresses(member& m, std::optional<runtime_api::address> connect, std::optional<runtime_api::address> proxy) {
    if (m.connect != connect)
        m.probes.clear();
    m.connect = std::move(connect);
    m.proxy = std::move(proxy);
}

std::vector<std::string> forget_absent(cluster& c, time_point now) {
    std::vector<std::string> gone;
    std::erase_if(c.members, [&c, &gone, now](const auto& entry) {
        const auto& [name, m] = entry;
        // The one that the leader key names exists: its slot may be kept on an unknown answer (R3).
        const bool named = c.leader && c.leader->name == name;
        const bool forget = !m.present && !named && !says_yes(m) && (is_dead(m) || now - m.absent_since >= absent_hold);
        if (forget)
            gone.push_back(entry.first);
        return forget;
    });
    return gone;
}

bool readable(const cluster& c, std::chrono::milliseconds poll_interval, time_point now) {
    return c.known && now - c.confirmed <= 2 * poll_interval + 3s;
}

const health* find_health(const member& m, const check& what) {
    const auto it = m.probes.find(what);
    return it == m.probes.end() || !it->second.answered ? nullptr : &it->second;
}

bool follows_leader(const cluster& c, const std::string& name) {
    const auto leader = c.leader ? timeline_of(c, c.leader->name) : std::nullopt;
    const auto own = timeline_of(c, name);
    return !leader || !own || *own >= *leader;
}

std::optional<std::uint64_t> lag_behind(const cluster& c, const std::string& name) {
    const auto own = wal_of(c, name);
    const auto leaders = c.leader ? wal_of(c, c.leader->name) : std::nullopt;
    const auto end = std::max(c.optime, leaders); // nothing is less than a number
    if (!own || !end)
        return std::nullopt;
    return *end > *own ? *end - *own : 0;
}

std::chrono::milliseconds probe_delay(const cluster& c, const std::string& name, const check& what,
                                      std::chrono::milliseconds interval, time_point now) {
    const auto it = c.members.find(name);
    const health* h = it == c.members.end() ? nullptr : find_health(it->second, what);
    if (!h)
        return interval;
    const auto at_most = [interval](std::chrono::milliseconds delay) { return std::min(delay, interval); };
    const auto since_change = now - c.leader_since;

    if (what.role == config::pool_role::primary) {
        const bool named = c.leader ? c.leader->name == name : c.last_leader == name;
        const bool answers = says(*h, answer::no) && h->last.how != refusal::dead;
        const bool promoted = since_change < promotion_lasts || now - h->since < promotion_lasts;
        if (named && !says(*h, answer::yes))
            return at_most(answers && promoted ? deciding(*h) : watching);
        if (named && !c.leader)
            return at_most(watching); // the key is gone: failsafe mode, a pause, or the beginning of a failover
        if (named)
            return interval / 4; // its death must be known before many connections have been refused (R3)
        return at_most(since_change < change_lasts && !c.leader ? watching : interval);
    }
    // A replica comes in with its second yes (R3), and is to be back within one interval of saying the first.
    const bool is_leader = c.leader && c.leader->name == name;
    const bool waited_for = says(*h, answer::yes) ? h->in_a_row == 1 || !follows_leader(c, name) : !is_leader;
    return waited_for || since_change < change_lasts ? interval * 2 / 5 : interval;
}

} // namespace pointsman::agent
