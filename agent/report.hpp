// Pure: everything that the agent decides by, and what it decided, as one JSON document: what `/api/v1/state` answers
// and what `why` and `plan` read.
#pragma once

#include "agent/pass.hpp"

#include <string>
#include <vector>

namespace pointsman::agent {

// Times are ages in seconds at `now`; null where something is not known.
std::string render_state(const passes& decided, time_point now);

// What is not as it should be, one sentence each: a pause, HAProxy that does not answer, pools that are not in step.
std::vector<std::string> complaints(const passes& decided, time_point now);

} // namespace pointsman::agent
