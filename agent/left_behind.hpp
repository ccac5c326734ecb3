// Pure: which sessions of an old worker of HAProxy's must end (R9): those with a member that was demoted or is dead.
//
// An old worker goes on with the slots that it had when a reload replaced it, so its sessions are told by the address
// of its own slot, not by the slot's name.
#pragma once

#include "runtime_api/address.hpp"
#include "runtime_api/old_worker.hpp"

#include <map>
#include <span>
#include <string>
#include <vector>

namespace pointsman::agent {

// What may stay of the sessions in one backend.
struct session_rule {
    std::map<runtime_api::address, bool> ends; // by member's address: whether its sessions must end
    bool others_end{};                         // and those at an address that is no member's

    friend bool operator==(const session_rule&, const session_rule&) = default;
};

using session_rules = std::map<std::string, session_rule>; // by backend

// Sessions in backends that have no rule stay.
std::vector<runtime_api::open_session> to_end(const session_rules& rules, const runtime_api::old_worker& worker);

// Whether these rules could end any session.
bool any_end(const session_rules& rules);

} // namespace pointsman::agent
