// A coroutine as a whole program: for the commands, and for the daemon's root.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

namespace pointsman::agent {

// Runs `root`, and all that it starts, until nothing is left; rethrows what leaves it. `root` must run on `context`.
void run_to_end(boost::asio::io_context& context, boost::asio::awaitable<void> root);

} // namespace pointsman::agent
