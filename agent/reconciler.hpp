// The loop: wake → observe → desire → plan → carry out → read back (design 6).
//
// Level-triggered: a wake-up carries nothing, each pass reads the whole state of HAProxy and compares. A plan is
// carried out stage by stage, and after each stage everything is observed and planned anew, so that a slot is given
// only after what had to be taken away is seen to be away. A command that fails ends the pass of its pool, not of the
// others (R14); the next pass begins from what HAProxy says then.
#pragma once

#include "agent/cluster_watch.hpp"
#include "agent/desire.hpp"
#include "agent/metrics.hpp"
#include "agent/placement.hpp"
#include "agent/planner.hpp"
#include "agent/slot_map.hpp"
#include "runtime_api/session.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace pointsman::agent {

class reconciler {
public:
    // `watches` and `counted` must outlive this. `passed` is called after every pass, successful or not: the loop makes
    // progress. `state_file`: where HAProxy's server-state file is kept; empty: nowhere.
    reconciler(const boost::asio::any_io_executor& executor, runtime_api::session session,
               std::vector<const cluster_watch*> watches, std::string state_file, metrics& counted,
               std::function<void()> passed);
    ~reconciler();
    reconciler(const reconciler&) = delete;
    reconciler& operator=(const reconciler&) = delete;

    // Asks for a pass as soon as possible; several calls before it make one pass.
    void wake();

    // Until cancelled.
    boost::asio::awaitable<void> run();

    // The slot map after the last pass that could observe HAProxy; empty before the first.
    std::vector<slot_row> rows() const;

private:
    struct pool;
    struct wake_up;

    boost::asio::awaitable<void> pass();
    time_point next_pass(time_point at) const;
    boost::asio::awaitable<bool> observe();
    boost::asio::awaitable<bool> carry_out_stage(pool& p);
    boost::asio::awaitable<runtime_api::result<void>> send(pool& p, std::vector<planned> stage);
    bool is_ours(const runtime_api::slot& s) const;
    void take_slots(pool& p, observed_pool next, time_point at);
    void decide(pool& p, time_point at);
    void report_placement(pool& p, const placement& next) const;
    void report_drift(pool& p) const;
    void report_process(const runtime_api::process_info& next) const;
    void give_up(pool& p, std::string why);
    void keep_state_file();

    boost::asio::any_io_executor executor_;
    runtime_api::session session_;
    std::vector<std::unique_ptr<pool>> pools_;
    std::vector<std::string> backends_; // of all pools
    std::string state_file_;
    metrics& metrics_;
    std::function<void()> passed_;
    std::unique_ptr<wake_up> wake_up_;

    std::optional<runtime_api::observation> seen_; // newest
    std::string haproxy_trouble_;                  // as logged last; empty: none
    std::string state_file_trouble_;
    std::vector<runtime_api::slot> state_file_slots_; // as written last
};

} // namespace pointsman::agent
