// Pure: what HAProxy's configuration must hold for the pools of a configuration (design.md, section 3).
#pragma once

#include "config/settings.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace pointsman::agent {

// A whole HAProxy configuration with the reason of every line in it, for `pointsman haproxy-config`. What belongs to
// the host alone (log, user, chroot, maxconn) is left to the host. Empty `hold_lua`: for a HAProxy without Lua.
std::string haproxy_config(const config::settings& settings, std::string_view hold_lua = "/etc/pointsman/hold.lua");

// Its lines one by one, for who names the one that is missing.
namespace haproxy_line {

std::string stats_socket(const config::haproxy_settings& haproxy);
std::string state_file(const config::haproxy_settings& haproxy);
inline constexpr std::string_view load_state = "load-server-state-from-file global";
inline constexpr std::string_view timeouts = "timeout client 24d / timeout server 24d";

inline constexpr std::string_view inspect_delay = "tcp-request inspect-delay 40s";
std::string hold(std::string_view backend);
std::string go_on(std::string_view backend); // to the new process, when HAProxy is reloaded
inline constexpr std::string_view hold_server = "server hold 127.0.0.1:1 backup maxconn 2000000";
inline constexpr std::string_view retries = "retries 40";
inline constexpr std::string_view redispatch = "option redispatch 1";

// HAProxy's check must not contradict the agent, and it cuts the sessions of a slot that it finds down: so it goes
// without the query of the agent's check, for lag is no reason to cut (R10), and lets the primary pass where reads fall
// back to it.
std::string check_path(const config::pool_settings& pool);
std::string check(const config::pool_settings& pool);

inline constexpr std::string_view default_server =
    "default-server inter 2s fall 3 rise 2 on-marked-down shutdown-sessions";
std::string slots(const config::pool_settings& pool, const config::tls_settings& tls, std::size_t number = 8,
                  unsigned check_port = 8008);

} // namespace haproxy_line

} // namespace pointsman::agent
