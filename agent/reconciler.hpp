// Carries out what pass.hpp decides: wake → observe → desire → plan → carry out → read back (design 6).
#pragma once

#include "agent/cluster_watch.hpp"
#include "agent/file_keeper.hpp"
#include "agent/journal.hpp"
#include "agent/metrics.hpp"
#include "agent/pass.hpp"
#include "runtime_api/session.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <functional>
#include <memory>
#include <vector>

namespace pointsman::agent {

class alarm;

class reconciler {
public:
    // `watches`, `keeper`, `told` and `counted` must outlive this. `given` tells each pass whether
    // it acts. `passed` is called after every pass, successful or
    // not: the loop makes progress. `keeper` may be null: HAProxy's server-state file is not kept.
    reconciler(const boost::asio::any_io_executor& executor, runtime_api::session session,
               const std::vector<const cluster_watch*>& watches, file_keeper* keeper, journal& told, metrics& counted,
               std::function<orders()> given, std::function<void()> passed);
    ~reconciler();
    reconciler(const reconciler&) = delete;
    reconciler& operator=(const reconciler&) = delete;

    // Asks for a pass as soon as possible; several calls before it make one pass.
    void wake();

    // Until cancelled.
    boost::asio::awaitable<void> run();

    const passes& state() const { return passes_; }

    // When the last pass ended, successful or not.
    time_point passed() const { return last_; }

private:
    boost::asio::awaitable<void> pass();
    boost::asio::awaitable<todo> carry_out(todo what);
    boost::asio::awaitable<void> wait_for_reason();
    void report();

    boost::asio::any_io_executor executor_;
    runtime_api::session session_;
    passes passes_;
    file_keeper* keeper_;
    journal& journal_;
    metrics& metrics_;
    std::function<orders()> given_;
    std::function<void()> passed_;
    time_point last_{};
    std::unique_ptr<alarm> alarm_;
};

} // namespace pointsman::agent
