// One line to a socket of HAProxy's and its whole answer, in a connection of its own.
//
// Bounded by `deadline` as a whole and by `max_reply` in size. Cancelling a call closes its connection and ends it with
// system_error(operation_aborted); HAProxy may have carried out the line by then. A failure names the socket.
#pragma once

#include "runtime_api/error.hpp"

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace pointsman::runtime_api {

// Where the socket is: a unix path, or a numeric address (`tcp://127.0.0.1:9999`).
struct socket_target {
    std::string path; // empty: TCP
    std::string host; // numeric
    std::uint16_t port{};
};

std::string to_string(const socket_target& target);

struct exchange_limits {
    std::chrono::milliseconds deadline{2000};
    std::size_t max_reply{std::size_t{16} << 20};
};

// Who ends the conversation: the stats socket closes after its answer, the master's waits for more until the client has
// closed its half (facts 5.3).
enum class last_word { server, client };

boost::asio::awaitable<result<std::string>> exchange(const socket_target& target, std::string line,
                                                     const exchange_limits& limits, last_word whose);

// The failure of an answer from there, naming the socket.
template<class T>
result<T> about(const socket_target& target, result<T> outcome) {
    if (!outcome)
        return failure{outcome.error().kind, "haproxy " + to_string(target) + ": " + outcome.error().detail};
    return outcome;
}

} // namespace pointsman::runtime_api
