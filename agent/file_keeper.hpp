// Keeps a file current, beside the loop: a disk that is slow, full or hung delays no slot.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

namespace pointsman::agent {

// What is kept, and what it means while it cannot be.
struct kept_file {
    std::string name; // "state file"
    std::string path;
    std::string without; // one clause, for the log
    std::chrono::milliseconds at_most_every{};
};

class file_keeper {
public:
    // Files are written on `disk`, an executor of another thread, which waits for them.
    file_keeper(const boost::asio::any_io_executor& executor, boost::asio::any_io_executor disk, kept_file what);
    ~file_keeper();
    file_keeper(const file_keeper&) = delete;
    file_keeper& operator=(const file_keeper&) = delete;

    // The file is to have this text, which is asked for when it is about to be written. Of several before that the last
    // one counts; one that could not be written is tried again every second.
    void keep(std::function<std::string()> text);

    // Until cancelled; a writing that is under way is waited for.
    boost::asio::awaitable<void> run();

private:
    struct state;
    std::unique_ptr<state> state_;
};

} // namespace pointsman::agent
