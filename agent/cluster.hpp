// Pure: what the agent knows of one Patroni cluster: its members as etcd tells them, what their nodes answer, and the
// leader key, all as values that the rules of desire.hpp read.
//
// etcd says who exists, and nothing vanishes with it (R4, R5): a member that is gone from etcd stays known for as long
// as its node says yes, and a view that cannot be read changes nothing.
#pragma once

#include "agent/health.hpp"
#include "config/settings.hpp"
#include "etcd_http/patroni.hpp"
#include "runtime_api/address.hpp"

#include <compare>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace pointsman::agent {

// What a pool asks of its members, and how it judges the answer.
struct check {
    std::string path;
    config::pool_role role{};
    friend auto operator<=>(const check&, const check&) = default;
};

inline check check_of(const config::pool_settings& pool) {
    return {pool.check, pool.role};
}
std::set<check> checks_of(const config::cluster_settings& settings);

struct member {
    etcd_http::member_record record;
    bool present{true}; // in the newest view
    time_point absent_since{};
    std::optional<runtime_api::address> connect; // of conn_url, resolved
    std::optional<runtime_api::address> proxy;   // of proxy_url, resolved
    std::map<check, health> probes;
};

// A switchover that Patroni was asked for (R12): new connections wait from its beginning on for the new primary.
struct switchover {
    std::string leader;      // the one that is to go
    time_point starts{};     // when it was seen, or its scheduled time
    std::int64_t revision{}; // tells one request from the next
};

// A request that Patroni neither carries out nor clears holds new connections no longer than this (R12).
inline constexpr std::chrono::seconds switchover_lasts{15};

struct cluster {
    bool known{};           // etcd was read at least once; until then nothing is desired of any slot
    time_point confirmed{}; // the last full read
    bool watched{};         // a change in etcd is told at once, and not by the next full read
    std::optional<etcd_http::leader_record> leader;
    std::optional<std::string> last_leader; // the name that the key had last, for while it is gone or unreadable
    time_point leader_since{};              // when the newest change of the key was seen
    std::map<std::string, member> members;
    std::optional<std::uint64_t> optime;
    std::optional<switchover> asked;
};

// How long a member that is gone from etcd and says neither yes nor that it is dead stays known. Patroni's keys come
// back within 1.5 s after an etcd that hung (facts 1.3).
inline constexpr std::chrono::seconds absent_hold{10};

struct view_change {
    bool leader{};                  // the key names another member, went, or came
    std::vector<std::string> probe; // members that are new, or say something new of themselves: a reason to probe
};

// `wall` is the same instant as `now`: a scheduled switchover is told in the wall clock's time.
view_change take_view(cluster& c, const etcd_http::cluster_view& view, time_point now,
                      std::chrono::system_clock::time_point wall);

// Whether a switchover away from this member is under way.
bool is_leaving(const cluster& c, const std::string& name, time_point now);

// When what `is_leaving` says changes by itself next, after `now`.
std::optional<time_point> next_change(const cluster& c, time_point now);

// What a probe's outcome changed.
struct probe_change {
    bool decides{};            // what is desired may have changed
    std::vector<check> turned; // the checks that now say something else
};

// Takes the outcome of a member's next probe of `path`, for every check that asks it.
// REQUIRES: the member is known.
probe_change take_outcome(cluster& c, const std::set<check>& checks, const std::string& name, const std::string& path,
                          const outcome& o);

// Where HAProxy reaches the member in this pool; none while that is not known.
inline const std::optional<runtime_api::address>& address_of(const member& m, const config::pool_settings& pool) {
    return pool.use_proxy_url ? m.proxy : m.connect;
}

// Sets the addresses that the member's names resolve to. What was asked of the node before says nothing of a new
// address.
void set_addresses(member& m, std::optional<runtime_api::address> connect, std::optional<runtime_api::address> proxy);

// Removes the members that are gone from etcd and from their nodes, and returns their names. The one that the leader
// key names stays.
std::vector<std::string> forget_absent(cluster& c, time_point now);

// Whether etcd's word is young enough to decide by: two polls and a read's deadline.
bool readable(const cluster& c, std::chrono::milliseconds poll_interval, time_point now);

const health* find_health(const member& m, const check& what);

// False where the member's node says that it is on an older timeline than the leader's: after a crash it comes up as a
// replica that has yet to be rewound, answers yes for half a second, and is stopped again (seen with Patroni 3.0.2).
bool follows_leader(const cluster& c, const std::string& name);

// How many bytes of WAL a member is behind the leader, from what the nodes themselves said last; etcd's `status` where
// the leader did not answer.
std::optional<std::uint64_t> lag_behind(const cluster& c, const std::string& name);

// When to probe a member again, counted from the end of the last probe: `interval` at rest, a quarter of it for the
// leader, faster around a change.
std::chrono::milliseconds probe_delay(const cluster& c, const std::string& name, const check& what,
                                      std::chrono::milliseconds interval, time_point now);

} // namespace pointsman::agent
