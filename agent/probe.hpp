// One probe: a GET of a check path on a connection of its own, and, where that brings no complete answer, a look at the
// PostgreSQL port (R3).
#pragma once

#include "agent/health.hpp"
#include "etcd_http/exchange.hpp"
#include "runtime_api/address.hpp"

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <optional>
#include <string>

namespace pointsman::agent {

// Where a member's REST API and PostgreSQL answer; addresses are resolved.
struct probe_target {
    etcd_http::http_request request;
    std::optional<runtime_api::address> postgres;
};

// Never fails: what went wrong is part of the outcome. REST and PostgreSQL port have `timeout` each.
boost::asio::awaitable<outcome> probe(const probe_target& target, std::chrono::milliseconds timeout);

} // namespace pointsman::agent
