// Pure: the last events, in order, as JSON (which is what the journal's file holds, `/api/v1/events` answers and the
// command line reads) and as text for people.
#pragma once

#include "agent/event.hpp"

#include <boost/system/result.hpp>

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace pointsman::agent {

struct recorded {
    std::uint64_t id{}; // grows by one, across restarts
    std::string time;   // local, ISO 8601 with milliseconds and offset
    event what;

    friend bool operator==(const recorded&, const recorded&) = default;
};

// Newest last.
using history = std::deque<recorded>;

inline constexpr std::size_t longest_history = 1000;
inline constexpr std::size_t largest_history = std::size_t{8} << 20; // as text

// Drops the oldest where there would be too many.
void record(history& h, std::string time, event what);

// An array of objects, one a line. What an event does not have is absent.
std::string render_events(const history& h);

// Reads what `render_events` wrote, in this version or another. An answer that is not of this form, or too large, is an
// error as a whole: one sentence.
boost::system::result<history, std::string> parse_events(std::string_view text);

// For a terminal: nothing that it would obey.
std::string describe_events(const history& h);

} // namespace pointsman::agent
