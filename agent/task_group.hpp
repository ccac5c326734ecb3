// Coroutines that belong to one owner: started at will, cancelled and awaited together, so that nothing outlives what
// it refers to.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <memory>

namespace pointsman::agent {

// One thread. An exception that leaves a task leaves `io_context::run()` too: it is a bug, and main ends with it.
class task_group {
public:
    explicit task_group(const boost::asio::any_io_executor& executor);
    ~task_group(); // REQUIRES: no task is left, or the io_context will not run again
    task_group(const task_group&) = delete;
    task_group& operator=(const task_group&) = delete;

    // After cancel() this does nothing.
    void spawn(boost::asio::awaitable<void> task);

    // Ends every task by terminal cancellation. Safe to call from outside of them only.
    void cancel();

    // Until no task is left. When the waiting coroutine itself is cancelled, the tasks are cancelled and awaited first.
    boost::asio::awaitable<void> wait();

private:
    struct state;
    std::shared_ptr<state> state_;
};

} // namespace pointsman::agent
