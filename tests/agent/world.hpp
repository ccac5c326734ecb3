// One cluster with its pools as the rules see it, built in a few words.
#pragma once

#include "agent/desire.hpp"
#include "agent/placement.hpp"
#include "agent/planner.hpp"

#include <optional>
#include <string>

namespace pointsman::test {

// How a node answers a probe.
struct node_says {
    std::optional<unsigned> status; // none: no complete answer
    std::string state{"running"};
    std::string role{"replica"};
    std::optional<std::string> replication_state{};
    std::optional<std::uint64_t> wal{};
    std::optional<bool> postgres_open{true};
    std::optional<std::uint64_t> timeline{};
};

inline node_says writable() {
    return {.status = 200, .role = "master"};
}
inline node_says standby() {
    return {.status = 503};
} // to /master
inline node_says readable() {
    return {.status = 200};
} // to /replica
inline node_says silent() {
    return {.status = std::nullopt};
} // PostgreSQL's port is open
inline node_says dead() {
    return {.status = std::nullopt, .postgres_open = false};
}

inline node_says gone() {
    return {.status = std::nullopt, .postgres_open = std::nullopt};
} // from the network

// A cluster with pools `primary` (/master) and `replicas` (/replica). Members n1, n2, ... have 10.0.0.1, 10.0.0.2, ...
class world {
public:
    world();

    world& member(const std::string& name);
    world& leader(const std::string& name); // a new term each time
    world& no_leader();
    world& asked_to_leave(const std::string& name); // the `failover` key
    world& etcd_away();                             // for so long that its word is too old
    world& gone(const std::string& name);           // from etcd
    world& says(const std::string& name, const node_says& master, int times = 1);
    world& reads(const std::string& name, const node_says& replica, int times = 1);
    world& passes(std::chrono::milliseconds time);
    world& slots(const std::string& backend, const std::string& text);
    world& sessions(const std::string& backend, const std::string& slot, std::uint64_t count);
    world& orphan_for(const std::string& backend, const std::string& slot, std::chrono::seconds time);

    // "n1=ready n2=maint ...", in the order of the slots; `+cut` (where it leaves service), `+unchecked`, `+w50`; slots
    // of no member by their name.
    std::string desired(const std::string& backend) const;
    // The plan's commands, joined by "; ".
    std::string plan(const std::string& backend) const;
    // Carries the plan out, stage by stage as the reconciler does, until there is none left.
    world& settle(const std::string& backend);

    std::vector<agent::desired_slot> desire(const std::string& backend) const;
    const std::vector<runtime_api::slot>& slots_of(const std::string& backend) const;
    std::string why(const std::string& backend, const std::string& member) const;

    config::cluster_settings settings;
    agent::cluster c;
    agent::time_point now{std::chrono::hours(1000)};

private:
    const config::pool_settings& pool(const std::string& backend) const;
    agent::placement place(const std::string& backend) const;
    void probe(const std::string& name, const agent::check& what, const node_says& answer, int times);

    std::map<std::string, agent::observed_pool> observed_;
    std::int64_t term_{};
    bool away_{};
};

} // namespace pointsman::test
