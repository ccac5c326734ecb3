// HAProxy's stats socket: commands and dumps, each in a short connection of its own (facts 2: the only mode that is the
// same in every version, and the only one that never stays attached to an old worker).
//
// Every call is one exchange: connect, one line, read to the end, bounded by `deadline` as a whole and by `max_reply`
// in size. Calls may overlap, but HAProxy serves ten connections at most and writes must be ordered: the caller keeps
// one exchange in flight. Cancelling a call closes its connection and ends it with system_error(operation_aborted);
// HAProxy may have carried out the line by then.
#pragma once

#include "runtime_api/command.hpp"
#include "runtime_api/error.hpp"
#include "runtime_api/server_state.hpp"

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace pointsman::runtime_api {

// Where the socket is: a unix path, or a numeric address (`tcp://127.0.0.1:9999`).
struct socket_target {
    std::string path; // empty: TCP
    std::string host; // numeric
    std::uint16_t port{};
};

std::string to_string(const socket_target& target);

class session {
public:
    explicit session(socket_target target, std::chrono::milliseconds deadline = std::chrono::seconds(2),
                     std::size_t max_reply = std::size_t{16} << 20);

    // `show info` and `show servers state` of the same process, in one exchange.
    // Fails with errc::stopping where an old worker answered.
    boost::asio::awaitable<result<observation>> observe() const;

    // `show stat`, servers only.
    boost::asio::awaitable<result<std::vector<server_statistics>>> statistics() const;

    // Sends `batch` in one exchange and checks the answer. REQUIRES: `can_share_a_line(batch)`.
    boost::asio::awaitable<result<void>> execute(std::span<const command> batch) const;

    const socket_target& target() const { return target_; }

private:
    boost::asio::awaitable<result<std::string>> exchange(std::string line) const;

    socket_target target_;
    std::chrono::milliseconds deadline_;
    std::size_t max_reply_;
};

} // namespace pointsman::runtime_api
