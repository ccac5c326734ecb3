// `pointsman slots`: the slot map as HAProxy has it now, with what the daemon and etcd know of it if they answer.
// HAProxy is asked directly, so that the map is right with the daemon dead.
#pragma once

#include "config/settings.hpp"

namespace pointsman::agent {

struct slots_options {
    bool json{};
    bool watch{}; // drawn anew every second, until interrupted
};

// Prints to standard output, remarks to standard error. 0 done, 3 HAProxy did not answer (design 5).
int slots_command(const config::settings& settings, const slots_options& options);

} // namespace pointsman::agent
