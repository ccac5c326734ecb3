// Pure: what HAProxy's configuration must hold for the pools of a configuration (design.md, section 3).
#pragma once

#include "config/settings.hpp"

#include <string>
#include <string_view>

namespace pointsman::agent {

// A whole HAProxy configuration with the reason of every line in it, for `pointsman haproxy-config`. What belongs to
// the host alone (log, user, chroot, maxconn) is left to the host. Empty `hold_lua`: for a HAProxy without Lua.
std::string haproxy_config(const config::settings& settings, std::string_view hold_lua = "/etc/pointsman/hold.lua");

} // namespace pointsman::agent
