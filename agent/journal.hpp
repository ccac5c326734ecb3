// What happened, for as long as the agent remembers: stamps events with the time, keeps the last of them, and has them
// outlive the daemon in a file.
#pragma once

#include "agent/history.hpp"

#include <optional>
#include <string>

namespace pointsman::agent {

class file_keeper;

class journal {
public:
    // The file beside HAProxy's state file; empty where that is not kept.
    static std::string file_beside(const std::string& state_file);

    // What the file holds. nullopt: there is none, or it cannot be read, or is too large to be ours.
    static std::optional<std::string> read(const std::string& path);

    // Goes on from what the file has. Logs where that is no history: it begins anew then.
    void go_on_from(const std::string& path);

    // `keeper` may be null: nothing outlives the daemon. Else it must outlive its use here, until the next call.
    void keep_in(file_keeper* keeper);

    void add(event what);
    void add_all(events what);

    const history& all() const { return history_; }

    // Writes the file at once, and blocks for it: for the end of the daemon.
    void write(const std::string& path) const;

private:
    void changed();

    history history_;
    file_keeper* keeper_{};
};

} // namespace pointsman::agent
