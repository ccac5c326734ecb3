// Waiting for what another thread does with the disk. Includes Asio: for the shells alone.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <utility>

namespace pointsman::agent {

// The result of `work`, which runs on `disk` on values of its own. A cancellation waits for its end: with a slot Asio
// of Boost 1.81 would hand it on to the disk's thread, which may come to it when what was spawned is gone already.
template<class T>
boost::asio::awaitable<T> on_disk(boost::asio::any_io_executor disk, boost::asio::awaitable<T> work) {
    namespace asio = boost::asio;
    co_return co_await asio::co_spawn(disk, std::move(work),
                                      asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable));
}

} // namespace pointsman::agent
