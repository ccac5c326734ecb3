// The slot map's JSON, as the command line reads it from the agent, and the table that a terminal gets.
#include "tests/fuzz/laws.hpp"

#include "agent/slot_map.hpp"

#include <string>

using namespace pointsman::agent;
using namespace pointsman::fuzz;

namespace {

std::string without_colours(std::string table) {
    for (const char* code : {"\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[0m"})
        for (std::size_t at = 0; (at = table.find(code, at)) != std::string::npos;)
            table.erase(at, std::string_view(code).size());
    return table;
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto rows = parse_json(text_of(data, size));
    if (!rows) {
        must_be_printable(rows.error());
        return 0;
    }
    must(text_of(data, size).find('\0') == std::string_view::npos, "a NUL hides nothing");
    const auto again = parse_json(render_json(*rows));
    must(again && *again == *rows, "what was read is written and read again as it was");

    const table_style narrow{.colour = false, .width = size % 64};
    const std::string table = render_table(*rows);
    for (const std::string& shown : {table, render_table(*rows, narrow)})
        for (std::string_view rest = shown; !rest.empty();)
            must_be_printable(take_line(rest));
    must(without_colours(render_table(*rows, {.colour = true})) == table, "colours change nothing but colours");
    return 0;
}
