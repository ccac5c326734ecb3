// Pure: see error.hpp.
#include "runtime_api/error.hpp"

#include <algorithm>
#include <cstddef>

namespace pointsman::runtime_api {

std::string excerpt(std::string_view text) {
    constexpr std::size_t longest = 200;
    while (!text.empty() && text.back() == '\n')
        text.remove_suffix(1);
    std::string shown(text.substr(0, longest));
    std::replace_if(
        shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; }, ' ');
    return text.size() > longest ? shown + "..." : shown;
}

} // namespace pointsman::runtime_api
