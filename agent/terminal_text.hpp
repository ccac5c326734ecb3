// Pure: text from outside made fit for a terminal.
#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <string_view>

namespace pointsman::agent {

// A text that is safe to print, and its width.
struct cell {
    std::string text;
    std::size_t columns{};
};

// Control and formatting characters, and bytes that are not UTF-8, become escapes. At most `limit` columns, shortened
// in the middle: names differ at either end.
cell terminal_text(std::string_view text, std::size_t limit = std::numeric_limits<std::size_t>::max());

} // namespace pointsman::agent
