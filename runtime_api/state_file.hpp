// HAProxy's server-state file, from which a restarted HAProxy has its slots back before anybody talks to it (R8).
//
// HAProxy never writes the file itself. It is made from HAProxy's own dump, after every pass that left the slots right:
// an older one would bring back members that are gone (facts 6).
#pragma once

#include "runtime_api/error.hpp"

#include <span>
#include <string>
#include <string_view>

namespace pointsman::runtime_api {

// The file's text, made of the rows of `dump` (observation::dump) that belong to `backends` and that HAProxy restores
// right: it gives a slot its address back only where the slot is declared with a host name, though port and state in
// any case, so a row without one would send its sessions to the wrong place (facts 5.1). A check that the agent has
// suspended is enabled in it: whoever starts HAProxy from the file may be alone with it (R3).
//
// REQUIRES: parse_servers_state(dump) succeeds.
std::string state_file(std::string_view dump, std::span<const std::string> backends);

// Replaces the file as a whole: after a crash at any moment there is the old text or the new one. Blocks for the disk.
result<void> write_state_file(const std::string& path, std::string_view text);

} // namespace pointsman::runtime_api
