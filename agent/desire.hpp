// Pure: the rules of routing (design 2): what every slot of a pool should be, and why, from members, leader and probes.
//
// A function of values and a given time. What it does not know it leaves as it is: a member that was not probed yet, a
// slot whose address belongs to nobody while the cluster is not known (R15: adopt; R5: nothing vanishes in a crowd).
#pragma once

#include "agent/cluster.hpp"
#include "agent/placement.hpp"
#include "config/settings.hpp"
#include "runtime_api/server_state.hpp"

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::agent {

using runtime_api::admin_state;
using runtime_api::slot_id;

// What one slot should be.
struct desired_slot {
    slot_id id;
    std::optional<std::string> member;         // none: the slot is free
    std::optional<runtime_api::address> where; // none: as it is
    admin_state state{};
    std::optional<unsigned> weight; // none: as it is
    // HAProxy's own check of the slot; off while the agent keeps or drains what it would cut (R3, R10).
    bool check{true};
    // Its member was demoted or is dead: no session stays on it (R10), in an old worker neither (R9).
    bool cut{};
    std::string why;        // the rule that decided, for people
    std::string_view until; // what would change it, for people; static text

    friend bool operator==(const desired_slot&, const desired_slot&) = default;
};

// How long a member is kept in service on unknown answers (R3): Patroni's default ttl. By then the leader key has
// moved, or its owner is alive and only its REST API is not.
inline constexpr std::chrono::seconds unknown_grace{30};

// How far apart two noes of a running primary must be to count as two (R2). After a failsafe episode the API says 503
// for 0.2 s although writes go on (facts 1.4).
inline constexpr std::chrono::seconds second_no{1};

// And while nobody else claims to be the writer: after etcd was lost or replaced, Patroni says 503 until it has its key
// again, for 1.4 s and more, and PostgreSQL takes writes all the time (facts 1.4; seen with 3.0.2). An election waits
// two seconds for each node whose REST API hangs. A demotion changes the body or the key before that.
inline constexpr std::chrono::seconds lone_no{5};

// How long a slot in service whose address belongs to no member is left alone (R5).
inline constexpr std::chrono::seconds orphan_hold{10};

// How long a replica that says yes is waited for to reach the leader's timeline; one that replays late never may.
inline constexpr std::chrono::seconds rewind_hold{10};

// One pool as HAProxy has it now.
struct observed_pool {
    std::vector<runtime_api::slot> slots;       // of one backend, in HAProxy's order
    std::map<slot_id, std::uint64_t> sessions;  // of the slots that are drained, where they were asked for
    std::map<slot_id, time_point> orphan_since; // slots in service whose address belongs to no member
};

// One desired slot for each observed one, in the same order. `where` says which member has which slot.
std::vector<desired_slot> desire(const config::cluster_settings& settings, const config::pool_settings& pool,
                                 const cluster& c, const observed_pool& observed, const placement& where,
                                 bool etcd_readable, time_point now);

// The weight of a replica that is `lag` bytes behind, given the one that it has (design 4, `weight`). Changes only when
// it is worth a command: by an eighth of the base, or to the full weight.
unsigned weigh(const config::weight_settings& settings, std::uint64_t lag, unsigned current);

} // namespace pointsman::agent
