// Pure: what HAProxy's master process says of the workers that reloads have left behind, and what those say of the
// sessions that they still serve (facts 5.3, 5.4).
//
// An old worker takes no command but `show` and `shutdown session`: its slots stay as they were when it was replaced.
#pragma once

#include "runtime_api/error.hpp"
#include "runtime_api/server_state.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::runtime_api {

// A session of `show sess` that has a server.
struct open_session {
    std::string key; // "0x" and hexadecimal digits: HAProxy's own name for it
    slot_id slot;

    friend bool operator==(const open_session&, const open_session&) = default;
};

struct old_worker {
    std::int64_t pid{};
    std::vector<slot> slots; // as they were when it was replaced
    std::vector<open_session> sessions;
};

// The process ids under `# old workers` of `show proc`. After a failed reload some versions list the worker in service
// there: only its own `Stopping` tells (parse_old_worker).
result<std::vector<std::int64_t>> parse_old_workers(std::string_view text);

// Sessions of `show sess` with a server; the rest (waiting in a hold, the CLI's own) has none to be cut from.
result<std::vector<open_session>> parse_sessions(std::string_view text);

// What to ask the master for `parse_old_worker`.
std::string render_look(std::int64_t pid);

// The answer to that, to the end of the connection; nullopt where the process has ended, or is in service still.
result<std::optional<old_worker>> parse_old_worker(std::string_view reply);

// Ends sessions of an old worker, as many as go in one line; takes those off `sessions`.
// REQUIRES: at least one session.
std::string render_shutdown(std::int64_t pid, std::span<const open_session>& sessions);

} // namespace pointsman::runtime_api
