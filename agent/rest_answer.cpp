// Pure: see rest_answer.hpp.
#include "agent/rest_answer.hpp"

#include <nlohmann/json.hpp>

namespace pointsman::agent {

namespace {

using nlohmann::json;

const json* find(const json& object, const char* key) {
    const auto it = object.find(key);
    return it == object.end() ? nullptr : &*it;
}

std::string text_of(const json& object, const char* key) {
    const json* value = find(object, key);
    return value && value->is_string() ? value->get<std::string>() : std::string();
}

std::optional<std::uint64_t> number_of(const json& object, const char* key) {
    const json* value = find(object, key);
    return value && value->is_number_unsigned() ? std::optional(value->get<std::uint64_t>()) : std::nullopt;
}

// nlohmann's parser keeps its own stack on the heap, but its destructor and copies do not need depth from us: Patroni's
// bodies are four levels deep.
constexpr int deepest = 16;

} // namespace

std::optional<rest_body> parse_rest_body(std::string_view text) {
    const auto within_depth = [](int depth, json::parse_event_t, json&) { return depth <= deepest; };
    const json body = json::parse(text, within_depth, /*allow_exceptions=*/false);
    if (!body.is_object() || text.find('\0') != text.npos) // the library reads to the first NUL
        return std::nullopt;

    rest_body result;
    result.state = text_of(body, "state");
    result.role = text_of(body, "role");
    result.timeline = number_of(body, "timeline");
    if (const std::string streaming = text_of(body, "replication_state"); !streaming.empty())
        result.replication_state = streaming;
    if (const json* xlog = find(body, "xlog"); xlog && xlog->is_object()) {
        result.wal = number_of(*xlog, "location");
        if (!result.wal)
            result.wal = number_of(*xlog, "replayed_location");
    }
    return result;
}

} // namespace pointsman::agent
