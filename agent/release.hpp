// Gives HAProxy's own checks back (R3): while the agent keeps a slot on an unknown answer it has suspended them, and
// when it leaves, or has died, they are the backstop.
#pragma once

#include "config/settings.hpp"
#include "runtime_api/session.hpp"

#include <boost/asio/awaitable.hpp>

#include <set>
#include <string>

namespace pointsman::agent {

// On every slot of `backends`. Both must outlive the call.
boost::asio::awaitable<runtime_api::result<void>> release_checks(const runtime_api::session& session,
                                                                 const std::set<std::string>& backends);

// `pointsman release`. 0 done, 3 HAProxy did not answer, or not as it should (design 5).
int release_command(const config::settings& settings);

} // namespace pointsman::agent
