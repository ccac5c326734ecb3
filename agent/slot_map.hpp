// Pure: the slot map, one row for each slot of each pool: what HAProxy has, and what is desired. As a table for people,
// and as JSON, which is what `/api/v1/slots` answers and what the command line reads from it.
#pragma once

#include "runtime_api/server_state.hpp"

#include <boost/system/result.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::agent {

struct slot_row {
    std::string backend;
    std::string slot;
    std::optional<std::string> member;  // whom the slot is given to; its name comes from etcd and may be any text
    std::optional<std::string> address; // without brackets
    std::optional<std::uint16_t> port;
    std::string state;       // ready, drain or maint
    std::string operational; // up, down, starting or stopping
    unsigned weight{};
    std::optional<std::uint64_t> sessions;
    std::optional<std::string> desired; // ready, drain or maint; nullopt: nobody knows
    std::optional<bool> in_step;        // whether HAProxy has what is desired; nullopt: nobody knows
    std::optional<std::string> why;     // the rule that decided, one short sentence

    friend bool operator==(const slot_row&, const slot_row&) = default;
};

// What HAProxy says of the slot; nothing of what is desired.
slot_row row_of(const runtime_api::slot& slot);

struct table_style {
    bool colour{};          // ANSI colours, for a terminal only
    std::size_t width{100}; // columns; long member names are shortened to fit, nothing else is
};

// Grouped by backend, in the order of the rows; `!` marks a slot that is not in step, with the reason below it. Control
// and formatting characters, and bytes that are not UTF-8, are shown as escapes: none reaches the terminal.
std::string render_table(std::span<const slot_row> rows, const table_style& style = {});

// An array of objects, one a line; null where something is not known.
std::string render_json(std::span<const slot_row> rows);

// Reads what `render_json` wrote, in this version or another: unknown keys are ignored, what may be null may be absent.
// An answer that is not of this form, or too large, is an error as a whole: one sentence with the row and the key.
boost::system::result<std::vector<slot_row>, std::string> parse_json(std::string_view text);

} // namespace pointsman::agent
