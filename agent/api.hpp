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
#include <utility>

namespace pointsman::agent {

// What a page says at the moment; with a 503 where all is not well.
struct page_body {
    page_body(std::string t, bool w = true) : text(std::move(t)), well(w) {}
    std::string text;
    bool well{};
};

struct page {
    std::string content_type;
    std::function<page_body()> body;
};

using pages = std::map<std::string, page>; // by path

// Server-sent events: the text of the next one, twice a second.
using streams = std::map<std::string, std::function<std::string()>>; // by path

class api {
public:
    // Binds at once; throws std::runtime_error with the address where that fails.
    api(const boost::asio::any_io_executor& executor, const config::listen_address& where, pages served, streams live);
    ~api();
    api(const api&) = delete;
    api& operator=(const api&) = delete;

    // Until cancelled. Serves a bounded number of connections, each bounded in time: a browser opens a stream anew.
    boost::asio::awaitable<void> run();

private:
    struct listener;

    boost::asio::awaitable<void> accept_loop();

    std::unique_ptr<listener> listener_;
    pages served_;
    streams live_;
    task_group tasks_;
};

} // namespace pointsman::agent
