// The agent: the real pure core, with its I/O shells (cluster_watch, gateway, reconciler, old_workers, file_keeper)
// played in simulated time, as thin as they are and in the same order.
#pragma once

#include "etcd.hpp"
#include "routine.hpp"

#include "agent/cluster.hpp"
#include "agent/pass.hpp"
#include "etcd_http/key_cache.hpp"

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace pointsman::sim {

struct world;

// Destroyed at any time: that is kill -9.
class shell {
public:
    explicit shell(world& w);
    ~shell();

    void freeze(duration time);
    bool frozen() const { return frozen_until_ > clock_.now(); }

    const agent::cluster& state() const { return cluster_; }
    const agent::passes& passes() const { return *passes_; }
    time_point store_since() const { return store_since_; } // since when this store of etcd's is followed

private:
    // gateway
    routine<> follow();
    routine<bool> refresh(std::size_t endpoint);
    routine<> session(std::size_t endpoint);
    void take_message(const etcd_http::watch_message& message);

    // cluster_watch
    void take_keys();
    routine<> housekeeping();
    void refresh_addresses();
    void start_probers();
    void wake_probers(const std::string& member);
    routine<> probe_loop(std::string member, std::string path);
    routine<agent::outcome> probe(int host, std::optional<int> port_host, std::string path);
    std::optional<int> host_of(const std::string& member) const;
    std::optional<int> port_of(const std::string& member) const;
    duration next_delay(const std::string& member, const std::string& path);

    // reconciler, file_keeper, old_workers
    void wake() { reason_.ring(); }
    routine<> reconcile();
    routine<agent::todo> carry_out(agent::todo what);
    routine<> wait_for_reason();
    routine<runtime_api::result<std::string>> ask_haproxy(std::string what, std::vector<runtime_api::command> batch);
    void keep(std::string text);
    routine<> sweep_old_workers();

    world& w_;
    scheduler& clock_;
    time_point frozen_until_{};

    agent::cluster cluster_;
    std::set<agent::check> checks_;
    std::map<std::pair<std::string, std::string>, std::unique_ptr<alarm>> probers_;

    etcd_http::key_cache cache_;
    std::shared_ptr<etcd::watch> watch_;
    std::uint64_t store_{};
    time_point store_since_{};
    bool watch_owes_{};
    alarm watch_ends_;

    std::optional<agent::passes> passes_;
    alarm reason_;

    agent::session_rules rules_;
    alarm rules_changed_;

    crew tasks_; // last: its routines use all of the above
};

} // namespace pointsman::sim
