#include "agent/state_keeper.hpp"

#include "runtime_api/replace_file.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <spdlog/spdlog.h>

#include <optional>
#include <utility>

namespace pointsman::agent {

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

constexpr auto retry_after = 1s;

// Runs on the disk's thread, on values of its own.
asio::awaitable<std::string> write(std::string path, std::string text) {
    const auto written = runtime_api::replace_file(path, text);
    co_return written.has_value() ? std::string() : written.error().detail;
}

} // namespace

struct state_keeper::state {
    state(const asio::any_io_executor& ex, std::string p) : timer(ex), path(std::move(p)) {}

    asio::steady_timer timer;
    std::string path;
    std::optional<std::string> next; // text that is to be written
    std::string trouble;             // as told last; empty: none
    asio::thread_pool disk{1};
};

state_keeper::state_keeper(const asio::any_io_executor& executor, std::string path)
    : state_(std::make_unique<state>(executor, std::move(path))) {}

state_keeper::~state_keeper() = default;

void state_keeper::keep(std::string text) {
    state_->next = std::move(text);
    state_->timer.cancel();
}

asio::awaitable<void> state_keeper::run() {
    state& s = *state_;
    for (;;) {
        if (!s.next) {
            s.timer.expires_at(asio::steady_timer::time_point::max());
            auto [error] = co_await s.timer.async_wait(asio::as_tuple(asio::use_awaitable));
            static_cast<void>(error);
            continue;
        }
        const std::string text = *std::exchange(s.next, std::nullopt);
        const std::string trouble = co_await asio::co_spawn(s.disk, write(s.path, text), asio::use_awaitable);
        if (trouble.empty()) {
            if (!s.trouble.empty())
                spdlog::info("state file {}: kept again", s.path);
            s.trouble.clear();
            continue;
        }
        if (s.trouble.empty())
            spdlog::error(
                "state file {}; a HAProxy that restarts now begins with its slots of before, until the agent has put "
                "them right; trying again every {} s",
                trouble, std::chrono::seconds(retry_after).count());
        s.trouble = trouble;
        if (!s.next)
            s.next = text;
        s.timer.expires_after(retry_after);
        auto [error] = co_await s.timer.async_wait(asio::as_tuple(asio::use_awaitable));
        static_cast<void>(error);
    }
}

} // namespace pointsman::agent
