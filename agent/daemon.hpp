// The daemon: everything of one configuration put together, run until a signal, and taken apart again.
#pragma once

#include "config/settings.hpp"

#include <string>

namespace pointsman::agent {

// Runs until SIGTERM or SIGINT, and gives HAProxy's own checks back before it returns. SIGHUP reads `config_path`
// again: a good file replaces the configuration (HAProxy's slots are adopted as they are), a bad one changes nothing.
// Tells systemd when it is ready and feeds its watchdog from the main loop. Throws std::runtime_error where it cannot
// start: a file of the configuration that cannot be read, a port in use.
void run_daemon(config::settings settings, const std::string& config_path, const std::string& version);

} // namespace pointsman::agent
