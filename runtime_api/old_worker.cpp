// Pure: see old_worker.hpp.
#include "runtime_api/old_worker.hpp"

#include "runtime_api/text.hpp"

#include <cstddef>

namespace pointsman::runtime_api {
namespace {

constexpr std::size_t longest_line = 8000;

// A dump of an answer that holds several: up to and with the empty line that ends it. nullopt: it is cut.
std::optional<std::string_view> take_dump(std::string_view& text) {
    const auto end = text.find("\n\n");
    if (end == std::string_view::npos)
        return std::nullopt;
    const auto dump = text.substr(0, end + 2);
    text.remove_prefix(dump.size());
    return dump;
}

bool is_session_key(std::string_view text) {
    constexpr std::size_t longest = 2 + 16;
    return text.starts_with("0x") && text.size() > 2 && text.size() <= longest &&
           text.substr(2).find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// The value of ` name=` in a line of `show sess`.
std::string_view field(std::string_view line, std::string_view name) {
    const auto at = line.find(' ' + std::string(name) + '=');
    if (at == std::string_view::npos)
        return {};
    line.remove_prefix(at + name.size() + 2);
    return line.substr(0, line.find(' '));
}

std::string prefix(std::int64_t pid) {
    return "@!" + std::to_string(pid) + ' ';
}

failure malformed(std::string detail) {
    return {errc::malformed, std::move(detail)};
}

} // namespace

result<std::vector<std::int64_t>> parse_old_workers(std::string_view text) {
    if (!text.starts_with("#<PID>") || !text.ends_with("\n\n"))
        return malformed("show proc: not a whole list of processes: " + excerpt(text));
    std::vector<std::int64_t> found;
    bool old = false;
    while (!text.empty()) {
        const auto line = take(text, '\n');
        if (line.starts_with('#')) {
            old = line == "# old workers";
            continue;
        }
        const auto first = line.substr(0, line.find_first_of(" \t"));
        if (!old || first.empty())
            continue;
        const auto pid = number<std::int64_t>(first);
        if (!pid || *pid <= 0)
            return malformed("show proc: no process id in '" + excerpt(line) + '\'');
        found.push_back(*pid);
    }
    return found;
}

result<std::vector<open_session>> parse_sessions(std::string_view text) {
    if (!text.ends_with('\n'))
        return malformed("show sess: the answer is cut: " + excerpt(text));
    std::vector<open_session> sessions;
    while (!text.empty()) {
        const auto line = take(text, '\n');
        if (line.empty())
            continue;
        const auto key = line.substr(0, line.find(':'));
        if (!is_session_key(key))
            return malformed("show sess: no session in '" + excerpt(line) + '\'');
        if (auto slot = slot_id::parse(field(line, "be"), field(line, "srv")))
            sessions.push_back({std::string(key), std::move(*slot)});
    }
    return sessions;
}

std::string render_look(std::int64_t pid) {
    const auto to = prefix(pid);
    return to + "show info;" + to + "show servers state;" + to + "show sess\n";
}

result<std::optional<old_worker>> parse_old_worker(std::string_view reply) {
    if (reply.starts_with("Can't find the target PID"))
        return std::optional<old_worker>();
    const auto info_text = take_dump(reply);
    const auto state_text = take_dump(reply);
    if (!info_text || !state_text)
        return malformed("show servers state: the answer of an old worker is cut");
    const auto info = parse_info(*info_text);
    if (!info)
        return info.error();
    auto slots = parse_servers_state(*state_text);
    if (!slots)
        return slots.error();
    auto sessions = parse_sessions(reply);
    if (!sessions)
        return sessions.error();
    if (!info->stopping)
        return std::optional<old_worker>();
    return std::optional(old_worker{info->pid, std::move(*slots), std::move(*sessions)});
}

std::string render_shutdown(std::int64_t pid, std::span<const open_session>& sessions) {
    std::string line;
    std::size_t count = 0;
    for (; count != sessions.size() && line.size() < longest_line; ++count)
        line += (count == 0 ? "" : ";") + prefix(pid) + "shutdown session " + sessions[count].key;
    sessions = sessions.subspan(count);
    return line + '\n';
}

} // namespace pointsman::runtime_api
