// Pure: the shortest list of commands from the observed slots of a pool to the desired ones.
//
// Total, deterministic, in HAProxy's order of slots. Ordered so that dying half-way is safe (R15): first traffic is
// taken away, then slots in maint are re-addressed, then traffic is given. Whoever carries it out sends one stage,
// reads the state back and plans again, so that nothing is given before what was taken away is seen to be away (R2,
// R7).
#pragma once

#include "agent/desire.hpp"
#include "runtime_api/command.hpp"

#include <span>
#include <string>
#include <vector>

namespace pointsman::agent {

enum class stage { take_away, re_address, give };

struct planned {
    stage when{};
    runtime_api::command what;
    std::string why;

    friend bool operator==(const planned&, const planned&) = default;
};

// REQUIRES: `desired` has one entry for each of `observed`, in the same order, as desire() gives it.
// Empty where the pool is in step.
std::vector<planned> plan(std::span<const runtime_api::slot> observed, std::span<const desired_slot> desired);

} // namespace pointsman::agent
