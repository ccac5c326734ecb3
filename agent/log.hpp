// The log: one line an event, to standard error, as text or as one JSON object a line.
#pragma once

#include "agent/note.hpp"
#include "config/settings.hpp"

namespace pointsman::agent {

void set_up_log(const config::log_settings& settings);

void log(const notes& all);

} // namespace pointsman::agent
