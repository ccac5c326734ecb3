// From settings to what the modules take: the one place where the files that a configuration names are read.
#pragma once

#include "config/settings.hpp"
#include "etcd_http/gateway.hpp"
#include "runtime_api/session.hpp"

#include <set>
#include <string>

namespace pointsman::agent {

runtime_api::socket_target haproxy_target(const config::settings& settings);

// The backends of all pools.
std::set<std::string> backends_of(const config::settings& settings);

// Reads the password and TLS files. Throws std::runtime_error with key and file where one cannot be used.
etcd_http::gateway_settings gateway_settings(const config::etcd_settings& settings);

// Null where nothing is configured: then a context with the system's CAs is made when the first node asks for TLS.
etcd_http::tls_context probe_tls(const config::probe_settings& settings);

} // namespace pointsman::agent
