// `pointsman why` and `pointsman plan`: what the daemon knows and decided, in words.
#pragma once

#include "config/settings.hpp"

#include <string>

namespace pointsman::agent {

// `what`: a member, or BACKEND/SLOT. 0 done, 1 there is nothing of this name, 3 the daemon did not answer (design 5).
int why_command(const config::settings& settings, const std::string& what, bool json);

// 0 nothing is to be done, 1 something is, 3 the daemon did not answer.
int plan_command(const config::settings& settings, bool json);

} // namespace pointsman::agent
