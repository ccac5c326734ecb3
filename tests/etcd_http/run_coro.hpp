// Coroutines of a test, driven from plain code: bounded in time, and one that leaves work behind fails the test.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/system/system_error.hpp>

#include <chrono>
#include <exception>
#include <optional>
#include <stdexcept>
#include <utility>

namespace pointsman::test {

// A coroutine under way: it goes on while the test waits in `until`.
class running {
public:
    template<class T>
    explicit running(boost::asio::awaitable<T> body) {
        const auto ended = [this](std::exception_ptr thrown, auto&&...) {
            ended_ = true;
            thrown_ = std::move(thrown);
        };
        boost::asio::co_spawn(context_, std::move(body), boost::asio::bind_cancellation_slot(signal_.slot(), ended));
    }

    ~running() { cancel(); }
    running(const running&) = delete;
    running& operator=(const running&) = delete;

    // False where `condition` did not come true in time, or the coroutine ended before.
    template<class Condition>
    bool until(Condition condition, std::chrono::milliseconds limit = std::chrono::seconds(12)) {
        for (const auto end = std::chrono::steady_clock::now() + limit; !condition();) {
            if (ended_ || std::chrono::steady_clock::now() > end)
                return false;
            context_.run_one_for(std::chrono::milliseconds(1));
        }
        return true;
    }

    // True where the coroutine ended at once, by throwing operation_aborted, and left nothing behind.
    bool cancel() {
        signal_.emit(boost::asio::cancellation_type::terminal);
        context_.run_for(std::chrono::seconds(2));
        if (!context_.stopped() || !thrown_)
            return false;
        try {
            std::rethrow_exception(thrown_);
        } catch (const boost::system::system_error& error) {
            return error.code() == boost::asio::error::operation_aborted;
        } catch (...) {
            return false;
        }
    }

private:
    bool ended_{};
    std::exception_ptr thrown_;
    boost::asio::cancellation_signal signal_;
    boost::asio::io_context context_{1}; // last: what is left in it uses the others
};

// Throws what `body` throws, or runtime_error where it does not end in time or leaves work in its context.
template<class T>
T run_coro(boost::asio::awaitable<T> body) {
    boost::asio::io_context context(1);
    std::exception_ptr thrown;
    std::optional<T> value;
    boost::asio::co_spawn(context, std::move(body), [&thrown, &value](std::exception_ptr what, T result) {
        thrown = std::move(what);
        value.emplace(std::move(result));
    });
    context.run_for(std::chrono::seconds(15));
    if (!value)
        throw std::runtime_error("the coroutine did not end in time");
    if (!context.stopped())
        throw std::runtime_error("the coroutine left work behind");
    if (thrown)
        std::rethrow_exception(thrown);
    return std::move(*value);
}

} // namespace pointsman::test
