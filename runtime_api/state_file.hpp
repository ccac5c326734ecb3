// Pure: the rows of HAProxy's server-state file, from which a restarted HAProxy has its slots back before anybody talks
// to it (R8).
//
// HAProxy never writes the file itself. It is made from HAProxy's own dump, pool by pool, of the last time that the
// pool's slots were right: an older one would bring back members that are gone (facts 6).
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace pointsman::runtime_api {

struct state_rows {
    std::string head; // the format's version and the names of the columns: the file's first lines
    std::map<std::string, std::string> of_backend; // whole lines
};

// The rows of `dump` (observation::dump) that HAProxy restores right: it gives a slot its address back only where the
// slot is declared with a host name, though port and state in any case, so a row without one would send its sessions to
// the wrong place (facts 5.1). A check that the agent has suspended is enabled in them: whoever starts HAProxy from the
// file may be alone with it (R3).
//
// REQUIRES: parse_servers_state(dump) succeeds.
state_rows restorable_rows(std::string_view dump);

} // namespace pointsman::runtime_api
