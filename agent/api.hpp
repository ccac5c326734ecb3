// What the daemon knows, over HTTP: pages made when they are asked for. Read-only.
#pragma once

#include "agent/task_group.hpp"
#include "config/settings.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>

namespace pointsman::agent {

struct page {
    std::string content_type;
    std::function<std::string()> body;
    std::function<bool()> well{}; // answers 503 with the same body while this says no; none: always 200
};

using pages = std::map<std::string, page>; // by path

class api {
public:
    // Binds at once; throws std::runtime_error with the address where that fails.
    api(const boost::asio::any_io_executor& executor, const config::listen_address& where, pages served);
    ~api();
    api(const api&) = delete;
    api& operator=(const api&) = delete;

    // Until cancelled. Serves a bounded number of connections, each bounded in time.
    boost::asio::awaitable<void> run();

private:
    struct listener;

    boost::asio::awaitable<void> accept_loop();

    std::unique_ptr<listener> listener_;
    pages served_;
    task_group tasks_;
};

} // namespace pointsman::agent
