// What the daemon knows, over HTTP: `GET /api/v1/slots`. Read-only.
#pragma once

#include "agent/task_group.hpp"
#include "config/settings.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <functional>
#include <memory>
#include <string>

namespace pointsman::agent {

class api {
public:
    // Binds at once; throws std::runtime_error with the address where that fails. `slots` gives the body as JSON.
    api(const boost::asio::any_io_executor& executor, const config::listen_address& where,
        std::function<std::string()> slots);
    ~api();
    api(const api&) = delete;
    api& operator=(const api&) = delete;

    // Until cancelled. Serves a bounded number of connections, each bounded in time.
    boost::asio::awaitable<void> run();

private:
    struct listener;

    boost::asio::awaitable<void> accept_loop();

    std::unique_ptr<listener> listener_;
    std::function<std::string()> slots_;
    task_group tasks_;
};

} // namespace pointsman::agent
