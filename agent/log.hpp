// The log: one line an event, to standard error, as text or as one JSON object a line.
#pragma once

#include "config/settings.hpp"

namespace pointsman::agent {

void set_up_log(const config::log_settings& settings);

} // namespace pointsman::agent
