#include "agent/probe.hpp"

#include <boost/asio/awaitable.hpp>

namespace pointsman::agent {

namespace asio = boost::asio;

namespace {

// Bodies are half a kilobyte, and 150 bytes more for each replica (facts 2.1).
constexpr std::size_t largest_body = std::size_t{256} << 10;

} // namespace

asio::awaitable<outcome> probe(const probe_target& target, std::chrono::milliseconds timeout) {
    outcome result;
    result.sent = std::chrono::steady_clock::now();
    const auto reply = co_await etcd_http::exchange(target.request, timeout, largest_body);
    if (reply.has_value()) {
        result.status = reply->status;
        result.body = parse_rest_body(reply->body);
    } else {
        result.detail = reply.error().detail;
    }
    if (!is_answer(result) && target.postgres) {
        const auto open = co_await etcd_http::port_open(target.postgres->ip(), target.postgres->port(), timeout);
        if (open.has_value())
            result.postgres_open = *open;
    }
    result.received = std::chrono::steady_clock::now();
    co_return result;
}

} // namespace pointsman::agent
