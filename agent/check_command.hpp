// `pointsman check`: the preflight. Asks etcd, the members' REST APIs and the running HAProxy, all at once;
// preflight.hpp says what it makes of the answers. Changes nothing anywhere.
#pragma once

#include "config/settings.hpp"

#include <string>

namespace pointsman::agent {

// `path`: where the settings are from. Prints to standard output, within `patience` (check_command.cpp) whatever hangs.
// 0 nothing is wrong, 1 something is, 3 etcd or HAProxy did not answer (design 5).
int check_command(const config::settings& settings, const std::string& path);

} // namespace pointsman::agent
