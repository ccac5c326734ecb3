// What the commands ask of the daemon that runs with the same configuration.
#pragma once

#include "config/settings.hpp"
#include "etcd_http/error.hpp"

#include <boost/asio/awaitable.hpp>

#include <string>

namespace pointsman::agent {

// The body of what it answers to GET `target`, within a second. A failure says in one sentence why there is none.
boost::asio::awaitable<etcd_http::result<std::string>> ask_daemon(const config::settings& settings, std::string target);

} // namespace pointsman::agent
