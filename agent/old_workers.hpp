// Ends the sessions that HAProxy's old workers, left behind by reloads, still hold with a member that was demoted or is
// dead (R9). An old worker runs no checks and takes no other command, so nobody else would (facts 5.4).
#pragma once

#include "agent/fault.hpp"
#include "agent/left_behind.hpp"
#include "runtime_api/master.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace pointsman::agent {

class alarm;
class journal;

class old_workers {
public:
    // `rules` gives those of the last pass. `told` must outlive this.
    old_workers(const boost::asio::any_io_executor& executor, runtime_api::master master,
                std::function<session_rules()> rules, journal& told);
    ~old_workers();
    old_workers(const old_workers&) = delete;
    old_workers& operator=(const old_workers&) = delete;

    // After each pass: rules that have changed are enforced at once, others every second.
    void passed();

    // Until cancelled.
    boost::asio::awaitable<void> run();

private:
    boost::asio::awaitable<void> sweep();
    boost::asio::awaitable<runtime_api::result<void>> sweep_worker(std::int64_t pid);
    void report_cut(std::int64_t pid, const std::vector<runtime_api::open_session>& sessions);
    void report(const runtime_api::result<void>& swept);

    boost::asio::any_io_executor executor_;
    runtime_api::master master_;
    std::function<session_rules()> ask_rules_;
    session_rules rules_;
    fault trouble_;
    journal& journal_;
    std::unique_ptr<alarm> alarm_;
};

} // namespace pointsman::agent
