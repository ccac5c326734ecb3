// Keeps HAProxy's server-state file (R8) current, beside the loop: a disk that is slow, full or hung delays no slot.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <memory>
#include <string>

namespace pointsman::agent {

class state_keeper {
public:
    state_keeper(const boost::asio::any_io_executor& executor, std::string path);
    ~state_keeper(); // waits for a writing that is under way
    state_keeper(const state_keeper&) = delete;
    state_keeper& operator=(const state_keeper&) = delete;

    // The file is to have this text. Of several before the disk is ready the last one counts; one that could not be
    // written is tried again every second.
    void keep(std::string text);

    // Until cancelled; a writing that is under way is waited for.
    boost::asio::awaitable<void> run();

private:
    struct state;
    std::unique_ptr<state> state_;
};

} // namespace pointsman::agent
