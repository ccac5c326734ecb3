// Pure: see why.hpp; nlohmann is the one library in here.
#include "agent/why.hpp"

#include "agent/bounded_json.hpp"
#include "agent/terminal_text.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <optional>

namespace pointsman::agent {

namespace {

using nlohmann::ordered_json;

constexpr int deepest = 12;

// A value that is not there, or of another type, is as good as none: the daemon may be of another version.
const ordered_json& at(const ordered_json& object, const char* key) {
    static const ordered_json none;
    const auto it = object.find(key);
    return it == object.end() ? none : *it;
}

std::string text(const ordered_json& object, const char* key, std::string_view none = "-") {
    const ordered_json& value = at(object, key);
    if (value.is_string())
        return terminal_text(value.get_ref<const std::string&>(), 400).text;
    return value.is_number() || value.is_boolean() ? value.dump() : std::string(none);
}

bool is_true(const ordered_json& object, const char* key) {
    const ordered_json& value = at(object, key);
    return value.is_boolean() && value.get<bool>();
}

// "0.3 s", "12 min"
std::string age(const ordered_json& object, const char* key) {
    const ordered_json& value = at(object, key);
    if (!value.is_number())
        return "?";
    const auto seconds = value.get<double>();
    if (seconds < 120)
        return fmt::format("{:.1f} s", seconds);
    return seconds < 7200 ? fmt::format("{:.0f} min", seconds / 60) : fmt::format("{:.0f} h", seconds / 3600);
}

std::string bytes(const ordered_json& object, const char* key) {
    const ordered_json& value = at(object, key);
    if (!value.is_number_unsigned())
        return "?";
    const auto count = value.get<std::uint64_t>();
    return count < (1U << 20) ? fmt::format("{} B", count) : fmt::format("{} MiB", count >> 20);
}

std::optional<ordered_json> parse(std::string_view document) {
    auto parsed = parse_bounded<ordered_json>(document, deepest);
    if (!parsed || !parsed->is_object() || !at(*parsed, "clusters").is_array())
        return std::nullopt;
    return parsed;
}

why_not no_document() {
    return {false, "what answers there is no daemon of Pointsman's, or of another version"};
}

std::string json_text(const ordered_json& value) {
    return value.dump(1, ' ', false, ordered_json::error_handler_t::replace) + '\n';
}

// --- text

std::string cluster_lines(const ordered_json& cluster) {
    const ordered_json& etcd = at(cluster, "etcd");
    const ordered_json& leader = at(cluster, "leader");
    const std::string key = leader.is_object() ? fmt::format("names {} (term {}, seen {} ago)", text(leader, "name"),
                                                             text(leader, "term"), age(leader, "for"))
                                               : fmt::format("is gone; it named {} last", text(cluster, "last_leader"));
    return fmt::format("  etcd         {}, read {} ago\n  leader key   {}\n",
                       is_true(etcd, "readable") ? "readable" : "NOT READABLE: probes alone decide (R4)",
                       age(etcd, "read"), key);
}

std::string check_line(const ordered_json& check) {
    if (!at(check, "answer").is_string())
        return fmt::format("  {:<12} not asked yet\n", text(check, "path"));
    std::string line = fmt::format("  {:<12} {}: {}; {} in a row, for {}; asked {} ago, answered in {:.1f} ms",
                                   text(check, "path"), text(check, "answer"), text(check, "said"),
                                   text(check, "in_a_row"), age(check, "for"), age(check, "asked"),
                                   at(check, "latency").is_number() ? 1000 * at(check, "latency").get<double>() : NAN);
    if (at(check, "timeline").is_number())
        line += ", timeline " + text(check, "timeline");
    if (text(check, "role") == "primary" && !is_true(check, "asked_in_this_term"))
        line += "; asked before the leader key was seen";
    return line + '\n';
}

std::string member_lines(const ordered_json& member) {
    std::string result =
        fmt::format("  in etcd      {}\n  address      {}, REST API {}\n",
                    is_true(member, "in_etcd") ? fmt::format("as {}", text(member, "says_of_itself"))
                                               : fmt::format("no, for {}", age(member, "gone_from_etcd")),
                    text(member, "address", "not known"), text(member, "rest_api", "not known"));
    if (is_true(member, "asked_to_leave"))
        result += "  switchover   away from it, asked for\n";
    if (!is_true(member, "leads"))
        result += fmt::format("  lag          {}\n", bytes(member, "lag"));
    for (const ordered_json& check : at(member, "checks"))
        result += check_line(check);
    return result;
}

std::string slot_lines(const ordered_json& pool, const ordered_json& slot) {
    const bool known = at(slot, "desired").is_string();
    std::string result = fmt::format(
        "  {}/{}: {} {}, weight {}, HAProxy says {}{}; desired: {}\n", text(pool, "backend"), text(slot, "slot"),
        text(slot, "state"), text(slot, "address"), text(slot, "weight"), text(slot, "operational"),
        at(slot, "own_check").is_boolean() && !is_true(slot, "own_check") ? ", its own check suspended" : "",
        known ? text(slot, "desired") : "not known");
    if (known)
        result += fmt::format("      because  {}\n      until    {}\n", text(slot, "why"), text(slot, "until"));
    for (const ordered_json& step : at(slot, "commands"))
        result += fmt::format("      next     {}   ({})\n", text(step, "command"), text(step, "why"));
    if (at(pool, "trouble").is_string())
        result += fmt::format("      trouble  {}\n", text(pool, "trouble"));
    return result;
}

// What comes before everything else: HAProxy does not answer, or nothing is sent to it.
std::string head_lines(const ordered_json& state, std::string_view before) {
    std::string result;
    const std::string conduct = text(state, "conduct", "acts");
    if (conduct == "paused")
        result += fmt::format("{}PAUSED until {}: nothing is sent to HAProxy\n", before, text(state, "until"));
    else if (conduct != "acts")
        result += fmt::format("{}this daemon is a {}: nothing is sent to HAProxy\n", before, conduct);
    const std::string trouble = text(at(state, "haproxy"), "trouble", "");
    if (!trouble.empty())
        result += fmt::format("{}HAProxy does not answer, slots are as last seen: {}\n", before, trouble);
    return result;
}

// --- what is asked for

struct found {
    std::string text;
    ordered_json json = ordered_json::array();
};

bool is(const ordered_json& object, const char* key, const std::string& wanted) {
    const ordered_json& value = at(object, key);
    return value.is_string() && value.get_ref<const std::string&>() == wanted;
}

const ordered_json* member_of(const ordered_json& cluster, const std::string& name) {
    for (const ordered_json& member : at(cluster, "members")) {
        if (is(member, "name", name))
            return &member;
    }
    return nullptr;
}

void find_member(const ordered_json& cluster, const std::string& name, found& result) {
    const ordered_json* member = member_of(cluster, name);
    if (!member)
        return;
    ordered_json slots = ordered_json::array();
    std::string lines;
    for (const ordered_json& pool : at(cluster, "pools")) {
        for (const ordered_json& slot : at(pool, "slots")) {
            if (is(slot, "member", name)) {
                lines += slot_lines(pool, slot);
                slots.push_back({{"backend", at(pool, "backend")}, {"slot", slot}});
            }
        }
    }
    result.text +=
        fmt::format("member {} of cluster {}\n{}{}{}", terminal_text(name).text, text(cluster, "scope"),
                    cluster_lines(cluster), member_lines(*member), lines.empty() ? "  it has no slot\n" : lines);
    result.json.push_back({{"cluster", at(cluster, "scope")},
                           {"etcd", at(cluster, "etcd")},
                           {"leader", at(cluster, "leader")},
                           {"member", *member},
                           {"slots", std::move(slots)}});
}

void find_slot(const ordered_json& cluster, const std::string& backend, const std::string& server, found& result) {
    for (const ordered_json& pool : at(cluster, "pools")) {
        if (!is(pool, "backend", backend))
            continue;
        for (const ordered_json& slot : at(pool, "slots")) {
            if (!is(slot, "slot", server))
                continue;
            const ordered_json& name = at(slot, "member");
            const ordered_json* member =
                name.is_string() ? member_of(cluster, name.get_ref<const std::string&>()) : nullptr;
            result.text +=
                fmt::format("slot {}/{} of cluster {}: {}\n{}{}{}", backend, server, text(cluster, "scope"),
                            member ? "member " + text(slot, "member") : "no member's", cluster_lines(cluster),
                            member ? member_lines(*member) : std::string(), slot_lines(pool, slot));
            result.json.push_back({{"cluster", at(cluster, "scope")},
                                   {"etcd", at(cluster, "etcd")},
                                   {"leader", at(cluster, "leader")},
                                   {"member", member ? *member : ordered_json(nullptr)},
                                   {"slots", {{{"backend", at(pool, "backend")}, {"slot", slot}}}}});
        }
    }
}

} // namespace

told<std::string> explain(std::string_view document, const std::string& what, bool json) {
    const auto state = parse(document);
    if (!state)
        return no_document();
    found result;
    const auto slash = what.find('/');
    for (const ordered_json& cluster : at(*state, "clusters")) {
        find_member(cluster, what, result);
        if (slash != std::string::npos)
            find_slot(cluster, what.substr(0, slash), what.substr(slash + 1), result);
    }
    if (result.json.empty())
        return why_not{true, fmt::format("no member and no BACKEND/SLOT is called {}; of a member that is gone, "
                                         "`pointsman events` tells how it went",
                                         terminal_text(what, 200).text)};
    return json ? json_text(result.json) : result.text + head_lines(*state, "");
}

told<next_pass> explain_plan(std::string_view document, bool json) {
    const auto state = parse(document);
    if (!state)
        return no_document();
    std::string lines;
    ordered_json all = ordered_json::array();
    for (const ordered_json& cluster : at(*state, "clusters")) {
        for (const ordered_json& pool : at(cluster, "pools")) {
            for (const ordered_json& slot : at(pool, "slots")) {
                for (const ordered_json& step : at(slot, "commands")) {
                    lines += fmt::format("{}   # {}, member {}: {}\n", text(step, "command"), text(cluster, "scope"),
                                         text(slot, "member"), text(step, "why"));
                    all.push_back({{"cluster", at(cluster, "scope")},
                                   {"member", at(slot, "member")},
                                   {"command", at(step, "command")},
                                   {"why", at(step, "why")}});
                }
            }
            if (at(pool, "trouble").is_string())
                lines += fmt::format("# {}, pool {}: {}\n", text(cluster, "scope"), text(pool, "backend"),
                                     text(pool, "trouble"));
        }
    }
    lines += head_lines(*state, "# ");
    if (json)
        return next_pass{all.size(), json_text(all)};
    return next_pass{all.size(), lines.empty() ? "nothing to do: every slot is as it should be\n" : std::move(lines)};
}

} // namespace pointsman::agent
