// HAProxy's stats socket: commands and dumps, each in a short connection of its own (facts 2: the only mode that is the
// same in every version, and the only one that never stays attached to an old worker).
//
// Every call is one exchange (exchange.hpp). Calls may overlap, but HAProxy serves ten connections at most and writes
// must be ordered: the caller keeps one exchange in flight.
#pragma once

#include "runtime_api/command.hpp"
#include "runtime_api/error.hpp"
#include "runtime_api/exchange.hpp"
#include "runtime_api/server_state.hpp"

#include <boost/asio/awaitable.hpp>

#include <span>
#include <string>

namespace pointsman::runtime_api {

class session {
public:
    explicit session(socket_target target, exchange_limits limits = {});

    // `show info`: which process answers, and whether it is an old worker.
    boost::asio::awaitable<result<process_info>> identify() const;

    // `show info` and `show servers state` of the same process, in one exchange.
    // Fails with errc::stopping where an old worker answered.
    boost::asio::awaitable<result<observation>> observe() const;

    // `show stat`, servers only: of one backend, or of all where it is empty.
    boost::asio::awaitable<result<std::vector<server_statistics>>> statistics(std::string backend = {}) const;

    // Sends `batch` in one exchange and checks the answer. REQUIRES: `can_share_a_line(batch)`.
    boost::asio::awaitable<result<void>> execute(std::span<const command> batch) const;

    const socket_target& target() const { return target_; }

private:
    boost::asio::awaitable<result<std::string>> ask(std::string line) const;

    socket_target target_;
    exchange_limits limits_;
};

} // namespace pointsman::runtime_api
