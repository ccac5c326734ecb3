// Pure: see history.hpp; nlohmann is the one library in here.
#include "agent/history.hpp"

#include "agent/bounded_json.hpp"
#include "agent/terminal_text.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <utility>

namespace pointsman::agent {

namespace {

using nlohmann::ordered_json;

constexpr int deepest = 4;
constexpr std::array severities{std::pair(severity::info, "info"), std::pair(severity::warning, "warning"),
                                std::pair(severity::error, "error")};

ordered_json json_of(const recorded& r) {
    const event& e = r.what;
    ordered_json result = {{"id", r.id}, {"time", r.time}};
    for (const auto& [how, word] : severities) {
        if (how == e.how)
            result["severity"] = word;
    }
    result["kind"] = e.kind;
    const auto add = [&result](const char* key, const std::string& text) {
        if (!text.empty())
            result[key] = text;
    };
    add("cluster", e.scope);
    add("subject", e.subject);
    add("member", e.member);
    add("text", e.text);
    add("why", e.why);
    if (e.cut)
        result["sessions_cut"] = *e.cut;
    for (const sent_command& c : e.commands)
        result["commands"].push_back({{"command", c.text}, {"answer", c.taken ? "ok" : "failed"}, {"ms", c.ms}});
    return result;
}

std::string text_at(const ordered_json& object, const char* key) {
    const auto it = object.find(key);
    return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

std::optional<std::uint64_t> count_at(const ordered_json& object, const char* key) {
    const auto it = object.find(key);
    return it != object.end() && it->is_number_unsigned() ? std::optional(it->get<std::uint64_t>()) : std::nullopt;
}

std::vector<sent_command> commands_of(const ordered_json& object) {
    std::vector<sent_command> result;
    const auto list = object.find("commands");
    if (list == object.end() || !list->is_array())
        return result;
    for (const ordered_json& each : *list) {
        if (!each.is_object())
            continue;
        const auto ms = each.find("ms");
        result.push_back({text_at(each, "command"), text_at(each, "answer") == "ok",
                          ms != each.end() && ms->is_number() ? ms->get<double>() : 0});
    }
    return result;
}

// nullopt: not an event.
std::optional<recorded> event_of(const ordered_json& object) {
    const auto id = object.is_object() ? count_at(object, "id") : std::nullopt;
    if (!id)
        return std::nullopt;
    recorded r{.id = *id, .time = text_at(object, "time"), .what = {}};
    const std::string how = text_at(object, "severity");
    for (const auto& [each, word] : severities) {
        if (how == word)
            r.what.how = each;
    }
    r.what.kind = text_at(object, "kind");
    r.what.scope = text_at(object, "cluster");
    r.what.subject = text_at(object, "subject");
    r.what.member = text_at(object, "member");
    r.what.text = text_at(object, "text");
    r.what.why = text_at(object, "why");
    r.what.cut = count_at(object, "sessions_cut");
    r.what.commands = commands_of(object);
    return r;
}

std::string shown(const std::string& text) {
    return terminal_text(text, 600).text;
}

} // namespace

void record(history& h, std::string time, event what) {
    const std::uint64_t id = h.empty() ? 1 : h.back().id + 1;
    h.push_back({id, std::move(time), std::move(what)});
    if (h.size() > longest_history)
        h.pop_front();
}

std::string render_events(const history& h) {
    std::string out = "[";
    for (const recorded& r : h) {
        out += out.size() == 1 ? "\n" : ",\n";
        out += json_of(r).dump(-1, ' ', false, ordered_json::error_handler_t::replace);
    }
    return out + "\n]\n";
}

boost::system::result<history, std::string> parse_events(std::string_view text) {
    if (text.size() > largest_history)
        return std::string("larger than 8 MiB");
    const auto document = parse_bounded<ordered_json>(text, deepest);
    if (!document || !document->is_array())
        return std::string("not a JSON array of events");
    history result;
    for (const ordered_json& object : *document) {
        auto r = event_of(object);
        if (!r || (!result.empty() && r->id <= result.back().id))
            return fmt::format("entry {} is not an event that follows the one before it", result.size() + 1);
        result.push_back(std::move(*r));
        if (result.size() > longest_history)
            result.pop_front();
    }
    return result;
}

std::string describe_events(const history& h) {
    std::string out;
    for (const auto& [id, time, e] : h) {
        const char* mark = e.how == severity::error ? "! " : "  ";
        std::string about = e.scope.empty() ? e.kind : e.scope + ": " + (e.subject.empty() ? e.kind : e.subject);
        if (!e.member.empty())
            about += " " + e.member;
        out += fmt::format("{}{}  {}: {}\n", mark, shown(time), shown(about), shown(e.text));
        if (!e.why.empty())
            out += fmt::format("      because  {}\n", shown(e.why));
        for (const sent_command& c : e.commands)
            out += fmt::format("      sent     {}   {}, {:.2f} ms\n", shown(c.text), c.taken ? "ok" : "FAILED", c.ms);
    }
    return out;
}

} // namespace pointsman::agent
