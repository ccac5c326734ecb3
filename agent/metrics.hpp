// What Prometheus scrapes. What is counted belongs to the process and not to one configuration: a SIGHUP resets
// nothing. What is (slots, members, ages) is looked up when it is scraped.
//
// Series do not grow with what happens: there are so many for each cluster and pool of the configuration.
#pragma once

#include "agent/failover.hpp"
#include "agent/pass.hpp"

#include <chrono>
#include <memory>
#include <string>

namespace pointsman::agent {

class metrics {
public:
    explicit metrics(const std::string& version);
    ~metrics();
    metrics(const metrics&) = delete;
    metrics& operator=(const metrics&) = delete;

    // `f` is over: `read_back` is set.
    void count(const std::string& scope, const std::string& backend, const failover& f);
    void count(const pool_tally& t);
    void count_probe(const std::string& scope, bool answered, std::chrono::nanoseconds took);
    void count_exchange(std::chrono::nanoseconds took); // with HAProxy
    void count_process_changes(unsigned changes);

    // In Prometheus' text format, version 0.0.4.
    std::string text(const passes& decided, time_point now) const;

private:
    struct registry;
    std::unique_ptr<registry> registry_;
};

} // namespace pointsman::agent
