// Pure: which member has which slot of a pool (R6).
//
// HAProxy itself is the memory: a slot belongs to the member whose address it has, so that an agent that starts anew
// finds every member where it was. Only a member whose address changes needs the agent to remember its slot.
#pragma once

#include "runtime_api/address.hpp"
#include "runtime_api/server_state.hpp"

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace pointsman::agent {

struct candidate {
    std::string name;
    std::optional<runtime_api::address> where; // none: the address is not known (yet)
    bool leader{};
    bool may_cut{}; // a leader that writes: for it a drained slot is given up too, which cuts its sessions (R10)
};

struct placement {
    std::map<std::string, runtime_api::slot_id> slots; // by member
    std::vector<std::string> without_slot;             // no slot was left: an alert with the member's name
    std::map<std::string, std::string> same_address;   // member → the member that has its address
};

// `before` is the placement that this gave last (empty at start). A member keeps its slot; a new one gets the first
// free one (in maint, its address nobody's); the leader always gets one, if need be that of a member that is out of
// service and, unless it may cut, without sessions.
placement place(std::span<const runtime_api::slot> slots, std::vector<candidate> members, const placement& before);

} // namespace pointsman::agent
