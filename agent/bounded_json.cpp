// Pure: see bounded_json.hpp; nlohmann is the one library in here.
#include "agent/bounded_json.hpp"

#include <nlohmann/json.hpp>

namespace pointsman::agent {

template<class Json>
std::optional<Json> parse_bounded(std::string_view text, int deepest) {
    bool too_deep = false;
    Json document = Json::parse(
        text,
        [&too_deep, deepest](int depth, typename Json::parse_event_t, Json&) {
            too_deep = too_deep || depth > deepest;
            return depth <= deepest;
        },
        false);
    if (too_deep || document.is_discarded() || text.find('\0') != text.npos)
        return std::nullopt;
    return document;
}

template std::optional<nlohmann::json> parse_bounded(std::string_view text, int deepest);
template std::optional<nlohmann::ordered_json> parse_bounded(std::string_view text, int deepest);

} // namespace pointsman::agent
