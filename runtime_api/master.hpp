// HAProxy's master socket (`-W -S`): the one way to the workers that reloads have left behind (R9).
//
// Every call is one exchange (exchange.hpp), as many as there are lines to send for `cut`.
#pragma once

#include "runtime_api/exchange.hpp"
#include "runtime_api/old_worker.hpp"

#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pointsman::runtime_api {

class master {
public:
    explicit master(std::string path, exchange_limits limits = {});

    boost::asio::awaitable<result<std::vector<std::int64_t>>> old_workers() const;

    // nullopt where the process has ended meanwhile, or is in service.
    boost::asio::awaitable<result<std::optional<old_worker>>> look(std::int64_t pid) const;

    // Asks for the end of the sessions; whether they have ended, `look` tells.
    boost::asio::awaitable<result<void>> cut(std::int64_t pid, std::vector<open_session> sessions) const;

private:
    socket_target target_;
    exchange_limits limits_;
};

} // namespace pointsman::runtime_api
