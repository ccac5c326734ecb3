// `pointsman events`: what happened last.
#pragma once

#include "config/settings.hpp"

#include <cstddef>

namespace pointsman::agent {

struct events_options {
    std::size_t last{40};
    bool cut{};  // only those with which sessions were cut
    bool json{}; // as `/api/v1/events`
};

// Asks the daemon, or reads what it left in its file where it does not answer. Returns the exit status.
int events_command(const config::settings& settings, const events_options& options);

} // namespace pointsman::agent
