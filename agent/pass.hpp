// Pure: the loop's decisions (design 6): what to do with HAProxy next, given what it said last, until every pool is in
// step. The reconciler carries them out.
//
// Level-triggered: each pass reads the whole state of HAProxy and compares. A plan is carried out stage by stage, and
// after each stage everything is observed and planned anew, so that a slot is given only after what had to be taken
// away is seen to be away. A command that fails ends the pass of its pool, not of the others (R14); the next pass
// begins from what HAProxy says then.
#pragma once

#include "agent/cluster.hpp"
#include "agent/event.hpp"
#include "agent/failover.hpp"
#include "agent/fault.hpp"
#include "agent/left_behind.hpp"
#include "agent/placement.hpp"
#include "agent/planner.hpp"
#include "agent/slot_map.hpp"
#include "config/settings.hpp"
#include "runtime_api/command.hpp"
#include "runtime_api/server_state.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace pointsman::agent {

// Whether the plan is carried out. Else it is only told, and the sessions of old workers stay too.
enum class conduct {
    acts,
    paused, // by `pointsman pause`
    shadow, // for as long as this daemon runs
};

struct orders {
    conduct how{};
    std::string until{}; // when a pause ends, for people
    bool watched{};      // somebody looks on: every slot's sessions are counted, once in each pass

    friend bool operator==(const orders&, const orders&) = default;
};

// Read HAProxy (`show info` and `show servers state` of one process) so much later.
struct look {
    std::chrono::milliseconds after{};
};
// Read `show stat` of this backend, of all where it is empty: the end of a drain depends on a slot's sessions, and how
// many are about to be cut is worth telling.
struct count_sessions {
    std::string backend{};
};
// Send these in one exchange.
struct send {
    std::vector<runtime_api::command> batch;
};
// The pass is over.
struct rest {};

using todo = std::variant<look, count_sessions, send, rest>;

// A cluster as it is followed.
struct followed_cluster {
    const config::cluster_settings& settings;
    const cluster& state;
    std::chrono::milliseconds poll_interval;
};

// A failover of a pool that has ended.
struct ended_failover {
    std::string scope;
    std::string backend;
    failover what;
};

// What a pool should be and what would be sent for it, now: decided anew from what was seen last, and carried out by
// the next pass.
struct pool_outlook {
    const followed_cluster& of;
    const config::pool_settings& settings;
    const std::vector<runtime_api::slot>& slots;      // as seen last; empty: none were
    const std::map<slot_id, std::uint64_t>& sessions; // as counted last, where they were
    std::vector<desired_slot> desired;                // one for each slot; empty: nothing is desired (yet)
    std::vector<planned> steps;
    std::size_t without_slot{}; // members for which there was no free slot
    const std::string& trouble; // why the last pass could not carry it out; empty: it could

    bool in_step() const { return !desired.empty() && steps.empty(); }
};

// What was done for one pool.
struct pool_tally {
    std::string scope;
    std::string backend;
    unsigned commands{}; // HAProxy has taken
    unsigned failures{}; // commands that it has not
    unsigned drifts{};   // slots found changed by somebody else
    unsigned repaired{}; // of those, the ones that are as they should be again

    friend bool operator==(const pool_tally&, const pool_tally&) = default;
};

class passes {
public:
    // How often HAProxy is looked at when nothing happens: drift is repaired within this time (R7).
    static constexpr std::chrono::seconds resync_interval{1};

    // What `clusters` refer to must outlive this. `haproxy` is what messages call it.
    passes(const std::vector<followed_cluster>& clusters, std::string haproxy);
    ~passes();
    passes(passes&&) noexcept;

    // A new pass begins; whatever the last one had left is dropped.
    todo begin(orders given = {});
    // The answers to what was to be done, in its order.
    todo seen(runtime_api::result<runtime_api::observation> what, time_point now);
    todo counted(const runtime_api::result<std::vector<runtime_api::server_statistics>>& what, time_point now);
    todo answered(const runtime_api::result<void>& what, time_point sent, time_point now);

    // Between two passes: whether what `show info` says is a reason for one at once: another process (R8), or one that
    // answers again or no longer.
    bool is_news(const runtime_api::result<runtime_api::process_info>& what) const;

    // When to begin the next pass if nothing else is a reason: the resync, or what changes by itself before it.
    time_point next(time_point now) const;

    // The slot map as seen last; empty before that.
    std::vector<slot_row> rows() const;

    // In the order of the configuration.
    std::vector<followed_cluster> clusters() const;

    // In the order of the configuration. What it refers to lives until the next call of anything that is not const.
    std::vector<pool_outlook> outlook(time_point now) const;

    // As of the last pass.
    const orders& given() const { return orders_; }

    // The process that answered last; nullptr where none has.
    const runtime_api::process_info* process() const { return seen_ ? &seen_->process : nullptr; }

    // Why HAProxy could not be read; empty: it could.
    const std::string& trouble() const { return trouble_.text(); }

    // Which sessions may stay, as decided last (R9).
    session_rules rules_of_sessions() const;

    // The text of HAProxy's server-state file: of each pool the rows of when it was last right (R8). Of a pool that is
    // not known (yet) those that HAProxy has. nullopt: as it was when last asked.
    std::optional<std::string> state_file();

    // What there is to tell since the last call: to the log, and to the journal.
    notes take_notes();
    events take_events();
    std::vector<ended_failover> take_failovers();

    // What was counted since the last call: of pools where there is something (of each pool once at first), and how
    // often HAProxy was another process.
    std::vector<pool_tally> take_tallies();
    unsigned take_process_changes();

private:
    struct pool;
    struct decision;

    todo look_at_pools(time_point now);
    static bool needs_count(const pool& p);
    todo next_stage(time_point now);
    todo next_batch(time_point now);
    todo wait_for_new_worker();
    todo end(time_point now);
    static decision decide_slots(const pool& p, time_point now);
    static void cut_what_is_uncut(const pool& p, decision& next);
    static void trust_new_process(const pool& p, decision& next);
    static void keep_others_out(const pool& p, decision& next);
    void decide(pool& p, time_point now);
    void take_slots(pool& p, std::vector<runtime_api::slot> slots, time_point now);
    void give_up(pool& p, std::string why, time_point now);
    void lose(const std::string& why, time_point now);
    void report_process(const runtime_api::process_info& next);
    void report_placement(const pool& p, const placement& next);
    void report_drift(pool& p);
    void report_difference(pool& p, time_point now);
    void keep_rows();
    static bool is_guard(const pool& p, const planned& step);
    void record_answer(const pool& p, bool taken, double took);
    void tell(severity how, event what, bool news = true); // to the log, and what is news to the journal too

    std::string haproxy_;
    std::vector<pool> pools_; // in the order of the configuration

    std::optional<runtime_api::observation> seen_; // newest
    fault trouble_;                                // HAProxy cannot be read

    // Of the pass under way.
    orders orders_;
    int waited_for_worker_{};
    bool drift_reported_{};
    bool counted_{};
    std::vector<pool*> sending_; // pools with a stage to send, the one that is being sent first
    std::size_t batch_{};        // how many of its commands are under way
    bool any_sent_{};
    bool waiting_{}; // for an address to change

    std::string state_head_;
    bool state_changed_{};
    notes notes_;
    events events_;
    std::vector<ended_failover> failovers_;
    unsigned process_changes_{};
};

} // namespace pointsman::agent
