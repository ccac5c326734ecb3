// The daemon: everything of one configuration put together, run until a signal, and taken apart again.
#pragma once

#include "config/settings.hpp"

#include <string>

namespace pointsman::agent {

struct daemon_options {
    std::string config_path;
    std::string version;
    bool shadow{}; // observes, tells what it would do, and sends and writes nothing
};

// Runs until SIGTERM or SIGINT, and gives HAProxy's own checks back before it returns. SIGHUP reads the configuration's
// file again: a good one replaces the configuration (HAProxy's slots are adopted as they are), a bad one changes
// nothing. Tells systemd when it is ready and feeds its watchdog from the main loop. Throws std::runtime_error where it
// cannot start: a file of the configuration that cannot be read, a port in use.
void run_daemon(config::settings settings, const daemon_options& options);

} // namespace pointsman::agent
