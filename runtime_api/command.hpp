// Pure: the commands that the agent sends, their text, and the answers that mean success (facts 1.1 to 1.4).
//
// HAProxy's socket has no status codes: a command either answers nothing (one empty line) or a sentence that differs
// between versions. Whatever is not recognised as success is a failure (R7). Success is still only HAProxy's word: the
// state is read back after it.
#pragma once

#include "runtime_api/error.hpp"
#include "runtime_api/server_state.hpp"

#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace pointsman::runtime_api {

struct set_state {
    slot_id slot;
    admin_state state{};
    friend bool operator==(const set_state&, const set_state&) = default;
};

// Always address and port together: from 2.9 on each change is an event of its own that carries both (facts 1.3).
struct set_address {
    slot_id slot;
    address where;
    friend bool operator==(const set_address&, const set_address&) = default;
};

struct set_weight {
    slot_id slot;
    unsigned weight{}; // REQUIRES: at most 256
    friend bool operator==(const set_weight&, const set_weight&) = default;
};

struct shutdown_sessions {
    slot_id slot;
    friend bool operator==(const shutdown_sessions&, const shutdown_sessions&) = default;
};

// `enable health` and `disable health`: HAProxy's own check of the slot, suspended while the agent keeps it (R3).
struct set_check {
    slot_id slot;
    bool enabled{};
    friend bool operator==(const set_check&, const set_check&) = default;
};

// `set server ... health up`: full health, from which it takes `fall` failed checks in a row to take the slot down.
// After maint the first one would do, also one that was under way when the check was suspended (tried on 2.6.12).
struct restore_health {
    slot_id slot;
    friend bool operator==(const restore_health&, const restore_health&) = default;
};

using command = std::variant<set_state, set_address, set_weight, shutdown_sessions, set_check, restore_health>;

const slot_id& slot_of(const command& c);

// The command as HAProxy reads it, without the line's end.
std::string render(const command& c);

// One line for one exchange: joined by `;`, no trailing `;` (up to 2.6 it prints the help), ended by `\n`.
// REQUIRES: `can_share_a_line(batch)`.
std::string render_line(std::span<const command> batch);

// Commands whose success is silent can share a line, for then the whole answer is one empty line for each. An address
// change answers with a sentence and goes alone. Nor may a line grow past what every version reads (8 kB, facts 2).
bool can_share_a_line(std::span<const command> batch);

// The first commands of `commands` that can go in one exchange; at least one where there is one.
std::span<const command> next_batch(std::span<const command> commands);

// Checks the whole answer, up to the end of the connection, to the line that `render_line(batch)` made.
result<void> check_reply(std::span<const command> batch, std::string_view reply);

} // namespace pointsman::runtime_api
