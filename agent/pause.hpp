// The pause: for a while the agent observes and sends nothing. It is a file beside HAProxy's state file with the time
// of its end, so that it outlives the daemon, and is made by whoever may write there.
#pragma once

#include "agent/journal.hpp"
#include "agent/pass.hpp"
#include "config/settings.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <functional>
#include <optional>
#include <string>

namespace pointsman::agent {

using wall_seconds = std::chrono::sys_seconds;

inline constexpr std::chrono::hours longest_pause{24};

// Empty where haproxy.state_file is not set.
std::string pause_file(const config::settings& settings);

// When the pause ends. nullopt: there is none. Throws std::runtime_error where the file cannot be read, or is not one.
std::optional<wall_seconds> read_pause(const std::string& path);

std::string describe(wall_seconds time); // local

// Looks for the file all the time.
class pause_watch {
public:
    // Reads the file at once, and blocks for it: the first pass is to know. Later it is read on `disk`, an executor of
    // another thread. `told` must outlive this; `changed` is called when a pause begins or ends.
    pause_watch(const boost::asio::any_io_executor& executor, boost::asio::any_io_executor disk, std::string path,
                journal& told, std::function<void()> changed);

    // Until cancelled.
    boost::asio::awaitable<void> run();

    // What the next pass has to go by.
    orders now() const;

private:
    struct reading {
        std::optional<wall_seconds> until;
        std::string trouble;
    };
    static reading read(const std::string& path);
    static boost::asio::awaitable<reading> read_there(std::string path);
    void take(const reading& next);

    boost::asio::any_io_executor executor_;
    boost::asio::any_io_executor disk_;
    std::string path_;
    journal& journal_;
    std::function<void()> changed_;
    std::optional<wall_seconds> until_;
    std::chrono::steady_clock::time_point told_{};
    fault trouble_;
};

// `pointsman pause --for` and `pointsman resume`. Wait until the daemon, if it answers, has heard. Return the exit
// status.
int pause_command(const config::settings& settings, std::chrono::seconds lasts);
int resume_command(const config::settings& settings);

} // namespace pointsman::agent
