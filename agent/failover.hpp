// Pure: how long a failover took, stage by stage, as the agent saw it: from the leader key that names another member to
// the new slot that HAProxy reports ready.
#pragma once

#include "agent/cluster.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace pointsman::agent {

struct failover {
    std::string from; // the member that the key named before
    std::string to;
    std::int64_t term{};
    time_point key_seen{};
    std::optional<time_point> old_cut; // the last slot but the new leader's went to maint; may be before `key_seen`
    std::optional<time_point> probe_yes;
    std::optional<time_point> new_ready; // HAProxy took the command
    std::optional<time_point> read_back; // and says so itself
};

// The agent's own part of the time from `key_seen` to `new_ready`: without what the new leader needed, after the old
// slot was out, until it said yes. REQUIRES: `probe_yes` and `new_ready`.
std::chrono::nanoseconds own_part(const failover& f);

// One line: every stage in milliseconds since the key was seen, a negative one before it, `-` for one that was not
// seen.
std::string describe(const failover& f);

// Follows one primary pool. Events come in the order of their times.
class failover_timer {
public:
    // With every look at the cluster: a leader key with a new name begins a failover, and ends one that was under way.
    void look(const cluster& c, const check& what);
    void went_to_maint(const std::string& member, time_point at);
    void went_to_ready(const std::string& member, time_point at);
    // HAProxy has the member's slot ready. Returns the failover that this ends.
    std::optional<failover> seen_ready(const std::string& member, time_point at);

private:
    std::optional<failover> current_;
    std::optional<std::string> leader_; // as looked at last
    std::optional<time_point> last_out_;
};

} // namespace pointsman::agent
