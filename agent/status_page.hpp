// The status page: agent/status_page.html as it is, one file that asks nobody but the daemon.
#pragma once

#include <string_view>

namespace pointsman::agent {

extern const std::string_view status_page;

} // namespace pointsman::agent
