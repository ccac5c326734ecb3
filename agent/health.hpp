// Pure: what the probes of one member say, three-valued (R3), as a state machine without clock or socket.
//
// A probe is one GET of a pool's check path. How its outcome is judged depends on the pool's role: a member is writable
// only with a 200 *and* a body that says so (R2), readable with a 200 unless it says that it does not stream.
#pragma once

#include "agent/rest_answer.hpp"
#include "config/settings.hpp"

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace pointsman::agent {

using time_point = std::chrono::steady_clock::time_point;

// What one probe brought.
struct outcome {
    time_point sent{};
    time_point received{};
    std::optional<unsigned> status; // of a complete HTTP answer
    std::optional<rest_body> body;  // where the answer had one that can be read
    // Asked only where the REST API did not answer: false when the PostgreSQL port refuses, nullopt when it does not
    // answer either.
    std::optional<bool> postgres_open;
    std::string detail; // why there was no complete answer
};

enum class answer { yes, no, unknown };

std::string_view to_string(answer a);

// How final a no is.
enum class refusal {
    soft,      // a status other than 200 and nothing in the body against it: a running primary's 503 (R2)
    otherwise, // the body says that the node is not what the pool asks for
    stopping,  // the body says that PostgreSQL is being stopped
    dead,      // REST silent and the PostgreSQL port refuses: two signals (R3)
};

struct verdict {
    answer what{};
    refusal how{}; // of a no
    bool gone{};   // of an unknown: the PostgreSQL port does not answer either, so no new session can come to be

    friend bool operator==(const verdict&, const verdict&) = default;
};

// Whether the node said anything of itself: a complete HTTP answer whose body does not give PostgreSQL's state as
// `unknown`. Patroni says that, with a 200, when its own query failed: of a healthy primary under load (seen
// with 3.0.2) as of one whose PostgreSQL has just crashed (facts 1.4).
bool is_answer(const outcome& o);

verdict judge(config::pool_role role, const outcome& o);

// The memory of one member's probes on one path, for one role.
struct health {
    bool answered{};                // at least one probe has ended
    verdict last{};                 // of the newest probe
    unsigned in_a_row{};            // how many of the newest had `last.what`
    time_point since{};             // when the first of those was received
    time_point sent{};              // when the newest probe was sent: a yes is as fresh as its question
    std::optional<rest_body> body;  // of the newest complete answer
    std::optional<unsigned> status; // of the newest probe
    std::chrono::nanoseconds latency{};
    std::string detail; // of the newest probe where it was unknown
};

// Takes the outcome of the next probe. Outcomes come in the order in which the probes were sent.
void step(health& h, config::pool_role role, outcome o);

inline bool says(const health& h, answer what) {
    return h.answered && h.last.what == what;
}

// One short sentence for the log and the slot map: `503, state running, role master`, `no answer in 1000 ms`.
std::string describe(const health& h);

} // namespace pointsman::agent
