#include "agent/task_group.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/channel_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>

#include <exception>
#include <list>

namespace pointsman::agent {

namespace asio = boost::asio;

struct task_group::state {
    explicit state(const asio::any_io_executor& ex) : executor(ex), idle(ex, asio::steady_timer::time_point::max()) {}

    asio::any_io_executor executor;
    std::list<asio::cancellation_signal> running;
    asio::steady_timer idle; // cancelled when the last task has ended: wakes wait()
    bool cancelled{};
};

namespace {

// A task that was cancelled ends with this exception; it is how a cancelled wait leaves a loop, not a failure.
bool is_cancellation(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const boost::system::system_error& e) {
        return e.code() == asio::error::operation_aborted || e.code() == asio::experimental::error::channel_cancelled;
    } catch (...) {
        return false;
    }
}

} // namespace

task_group::task_group(const asio::any_io_executor& executor) : state_(std::make_shared<state>(executor)) {}

task_group::~task_group() = default;

void task_group::spawn(asio::awaitable<void> task) {
    if (state_->cancelled)
        return;
    const auto signal = state_->running.emplace(state_->running.end());
    auto ended = [s = state_, signal](const std::exception_ptr& error) {
        s->running.erase(signal);
        if (s->running.empty())
            s->idle.cancel();
        if (error && !(s->cancelled && is_cancellation(error)))
            std::rethrow_exception(error);
    };
    asio::co_spawn(state_->executor, std::move(task), asio::bind_cancellation_slot(signal->slot(), std::move(ended)));
}

void task_group::cancel() {
    state_->cancelled = true;
    for (auto it = state_->running.begin(); it != state_->running.end();) {
        const auto signal = it++; // a task may end at once and take its signal with it
        signal->emit(asio::cancellation_type::terminal);
    }
}

asio::awaitable<void> task_group::wait() {
    co_await asio::this_coro::throw_if_cancelled(false);
    while (!state_->running.empty()) {
        const auto cancellation = co_await asio::this_coro::cancellation_state;
        if (cancellation.cancelled() != asio::cancellation_type::none) {
            cancel();
            co_await asio::this_coro::reset_cancellation_state();
        }
        state_->idle.expires_at(asio::steady_timer::time_point::max());
        auto [error] = co_await state_->idle.async_wait(asio::as_tuple(asio::use_awaitable));
        static_cast<void>(error);
    }
    co_await asio::this_coro::throw_if_cancelled(true);
}

} // namespace pointsman::agent
