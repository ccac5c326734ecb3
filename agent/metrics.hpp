// What Prometheus scrapes. Belongs to the process and not to one configuration: a SIGHUP resets nothing.
#pragma once

#include "agent/failover.hpp"

#include <memory>
#include <string>

namespace pointsman::agent {

class metrics {
public:
    metrics();
    ~metrics();
    metrics(const metrics&) = delete;
    metrics& operator=(const metrics&) = delete;

    // `f` is over: `read_back` is set.
    void count(const std::string& scope, const std::string& backend, const failover& f);

    // In Prometheus' text format, version 0.0.4.
    std::string text() const;

private:
    struct registry;
    std::unique_ptr<registry> registry_;
};

} // namespace pointsman::agent
