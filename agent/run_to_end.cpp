#include "agent/run_to_end.hpp"

#include <boost/asio/co_spawn.hpp>

#include <exception>

namespace pointsman::agent {

void run_to_end(boost::asio::io_context& context, boost::asio::awaitable<void> root) {
    boost::asio::co_spawn(context, std::move(root), [](const std::exception_ptr& error) {
        if (error)
            std::rethrow_exception(error);
    });
    context.run();
}

} // namespace pointsman::agent
