// What a loop sleeps on between two turns. A wake-up that comes while a turn is under way ends the next sleep at once.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace pointsman::agent {

class alarm {
public:
    explicit alarm(const boost::asio::any_io_executor& executor) : timer_(executor) {}

    void ring() {
        rung_ = true;
        timer_.cancel();
    }

    // Since the last reset.
    bool rung() const { return rung_; }

    // At the beginning of a turn, which answers every ring until now.
    void reset() { rung_ = false; }

    // Returns at this time, or when it rings.
    boost::asio::awaitable<void> sleep_until(std::chrono::steady_clock::time_point at) {
        if (rung_)
            co_return;
        timer_.expires_at(at);
        auto [error] = co_await timer_.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
        static_cast<void>(error);
    }

private:
    boost::asio::steady_timer timer_;
    bool rung_{};
};

} // namespace pointsman::agent
