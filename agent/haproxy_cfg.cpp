// Pure: see haproxy_cfg.hpp.
#include "agent/haproxy_cfg.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>

namespace pointsman::agent {

namespace {

// A section that is missing here would be taken for lines of the one before it, and `peers` has `server` lines too.
constexpr std::array<std::string_view, 20> section_kinds = {
    "global",      "defaults",    "listen",    "frontend",    "backend", "peers",      "resolvers",
    "userlist",    "mailers",     "cache",     "http-errors", "program", "ring",       "fcgi-app",
    "log-forward", "log-profile", "crt-store", "traces",      "acme",    "healthcheck"};

bool is_proxy(std::string_view kind) {
    return kind == "listen" || kind == "frontend" || kind == "backend";
}

bool is_name(char c) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

// `at` is behind a `$`: NAME, {NAME}, {NAME-instead} or {NAME[*]}. Leaves `at` behind the variable.
std::string expand(std::string_view line, std::size_t& at, const cfg_environment& environment) {
    const bool braced = at < line.size() && line[at] == '{';
    at += braced ? 1 : 0;
    const std::size_t begin = at;
    while (at < line.size() && is_name(line[at]))
        ++at;
    const auto found = environment.find(line.substr(begin, at - begin));
    std::string value = found == environment.end() ? std::string() : found->second;
    if (braced) {
        const std::size_t end = std::min(line.find('}', at), line.size());
        if (found == environment.end() && at < end && line[at] == '-')
            value = line.substr(at + 1, end - at - 1);
        at = std::min(end + 1, line.size());
    }
    return value;
}

// HAProxy's own rules: blanks separate, `#` ends, `\` takes the next character as it is (not in '...', and in "..."
// only a few), and "..." alone has variables.
cfg_words words_of(std::string_view line, const cfg_environment& environment) {
    cfg_words words;
    bool in_word = false;
    char quote = '\0';
    const auto add = [&words, &in_word](std::string_view text) {
        if (!in_word)
            words.emplace_back();
        in_word = true;
        words.back() += text;
    };
    for (std::size_t at = 0; at < line.size();) {
        const char c = line[at++];
        const bool has_next = at < line.size();
        if (c == quote) {
            quote = '\0';
        } else if (quote == '\0' && (c == '"' || c == '\'')) {
            quote = c;
            add("");
        } else if (quote == '\0' && c == '#') {
            break;
        } else if (quote == '\0' && (c == ' ' || c == '\t' || c == '\r')) {
            in_word = false;
        } else if (c == '\\' && has_next &&
                   (quote == '\0' ||
                    (quote == '"' && std::string_view("\\\"$").find(line[at]) != std::string_view::npos))) {
            add(line.substr(at++, 1));
        } else if (quote == '"' && c == '$') {
            add(expand(line, at, environment));
        } else {
            add(std::string_view(&c, 1));
        }
    }
    return words;
}

// The `defaults` that a section begins with: the one that it names, else the last one; a `defaults` only what it names.
const cfg_section* defaults_for(const std::vector<cfg_section>& sections, const cfg_words& head) {
    if (!is_proxy(head[0]) && head[0] != "defaults")
        return nullptr;
    const auto from = std::find(head.begin() + 1, head.end(), "from");
    const bool named = from != head.end() && from + 1 != head.end();
    if (head[0] == "defaults" && !named)
        return nullptr;
    const auto found = std::find_if(sections.rbegin(), sections.rend(), [named, from](const cfg_section& s) {
        return s.kind == "defaults" && (!named || s.name == *(from + 1));
    });
    return found == sections.rend() ? nullptr : &*found;
}

bool begins_with(const cfg_words& line, std::size_t from, std::initializer_list<std::string_view> words) {
    return line.size() >= from + words.size() &&
           std::equal(words.begin(), words.end(), line.begin() + static_cast<std::ptrdiff_t>(from));
}

} // namespace

void read_haproxy_cfg(std::vector<cfg_section>& sections, std::string_view text, const cfg_environment& environment) {
    const std::size_t before = sections.size();
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        cfg_words words = words_of(text.substr(0, end), environment);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (words.empty() || words[0].starts_with('.')) // `.if`, `.endif`, `.notice`, ...
            continue;
        if (std::find(section_kinds.begin(), section_kinds.end(), words[0]) != section_kinds.end()) {
            cfg_section section{words[0], words.size() > 1 && words[1] != "from" ? words[1] : "", {}};
            if (const cfg_section* defaults = defaults_for(sections, words))
                section.lines = defaults->lines;
            sections.push_back(std::move(section));
        } else if (sections.size() > before) { // a file begins with a section
            sections.back().lines.push_back(std::move(words));
        }
    }
}

const cfg_words* last_line(const cfg_section& section, std::initializer_list<std::string_view> words) {
    const cfg_words* last = nullptr;
    for (const cfg_words& line : section.lines) {
        if (begins_with(line, 0, words))
            last = &line;
        else if (line.front() == "no" && begins_with(line, 1, words))
            last = nullptr;
    }
    return last;
}

std::vector<cfg_server> servers_of(const cfg_section& section) {
    constexpr std::size_t own_words = 3;      // `server NAME ADDRESS`
    constexpr std::size_t template_words = 4; // `server-template PREFIX NUMBER ADDRESS`
    std::vector<cfg_server> servers;
    cfg_words defaults;
    for (const cfg_words& line : section.lines) {
        if (line[0] == "default-server") {
            defaults.insert(defaults.end(), line.begin() + 1, line.end());
            continue;
        }
        const std::size_t head = line[0] == "server" ? own_words : template_words;
        if ((line[0] != "server" && line[0] != "server-template") || line.size() < head)
            continue;
        cfg_server server{line[1], defaults};
        server.options.insert(server.options.end(), line.begin() + static_cast<std::ptrdiff_t>(head), line.end());
        servers.push_back(std::move(server));
    }
    return servers;
}

const std::string* value_of(const cfg_words& options, std::string_view option) {
    const auto found = std::find(options.rbegin(), options.rend(), option);
    return found == options.rend() || found == options.rbegin() ? nullptr : &*std::prev(found);
}

} // namespace pointsman::agent
