// Pure: JSON from outside, bounded in depth: without that, megabytes of brackets would become hundreds of megabytes of
// values.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <optional>
#include <string_view>

namespace pointsman::agent {

// nullopt where the text is not JSON, or is deeper than that. The library reads to the first NUL: a text with one is
// none. `Json` is nlohmann::json or nlohmann::ordered_json.
template<class Json>
std::optional<Json> parse_bounded(std::string_view text, int deepest);

} // namespace pointsman::agent
