#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <catch2/catch.hpp>

#include <chrono>
#include <exception>
#include <optional>
#include <utility>

namespace pointsman::test {

// Runs one coroutine to its end and gives what it returned. Fails where it takes longer than any test may.
template<class T>
T run(boost::asio::io_context& context, boost::asio::awaitable<T> work) {
    std::optional<T> outcome;
    boost::asio::co_spawn(context, std::move(work), [&outcome](std::exception_ptr error, T value) {
        if (error)
            std::rethrow_exception(error);
        outcome.emplace(std::move(value));
    });
    context.restart();
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(15);
    while (!outcome && context.run_one_until(end) != 0) {
    }
    REQUIRE(outcome);
    return std::move(*outcome);
}

} // namespace pointsman::test
