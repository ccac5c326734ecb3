// One HTTP request and its answer on a connection of its own, bounded in time and size (R13).
//
// The connection is opened, the request is sent at once, the answer is read to its end and the connection is closed:
// five idle connections stop a Patroni REST API (facts 2.1). An answer that ends with the connection (HTTP/1.0 without
// Content-Length) is complete. Cancelling (terminal) closes the connection and throws operation_aborted: a cancelled
// exchange is not a failure.
#pragma once

#include "etcd_http/error.hpp"
#include "etcd_http/tls.hpp"

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pointsman::etcd_http {

struct http_request {
    std::string method{"GET"};
    std::string ip;   // numeric: names are resolved by the caller
    std::string host; // for the Host header and, with TLS, for SNI and the certificate's name
    std::uint16_t port{};
    tls_context tls;    // null: plain HTTP
    std::string target; // "/replica?lag=16MB"
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;
};

struct http_reply {
    unsigned status{};
    std::string content_type;
    std::string body;
};

// Who is asked, as failures name it: `10.0.0.1:2379`, `etcd1.example.org:2379 (10.0.0.1)`.
std::string peer_name(const http_request& request);

// `deadline` covers everything from the connect to the last byte.
boost::asio::awaitable<result<http_reply>> exchange(const http_request& request, std::chrono::milliseconds deadline,
                                                    std::size_t max_body);

// What is to become of an answer that is read in pieces.
enum class stream_wish {
    in_time,  // go on; the deadline still holds
    for_ever, // go on without a deadline
    stop,     // close the connection
};

// Gets each piece of the body as soon as it arrives; must not block.
using stream_reader = std::function<stream_wish(std::string_view)>;

// The same for an answer that never ends of itself. Only the body of a 200 goes to `reader`, the one of any other
// answer is returned, up to `max_body`. Returns when the answer has ended or `reader` wishes to stop. A peer that
// vanishes from the network is found by TCP in about 20 s; one that hangs is not.
boost::asio::awaitable<result<http_reply>> stream(const http_request& request, std::chrono::milliseconds deadline,
                                                  std::size_t max_body, const stream_reader& reader);

// Whether a TCP connection can be made: true, false where the port refuses (errc::refused is not returned), or a
// failure (timeout, unreachable) where that is not known.
boost::asio::awaitable<result<bool>> port_open(const std::string& ip, std::uint16_t port,
                                               std::chrono::milliseconds deadline);

// Numeric addresses of a name, in the resolver's order; a numeric `host` is returned as it is, without a look-up. The
// look-up runs on Asio's resolver thread and cannot be cancelled: a caller that must not wait bounds the wait itself.
boost::asio::awaitable<result<std::vector<std::string>>> resolve(const std::string& host);

} // namespace pointsman::etcd_http
