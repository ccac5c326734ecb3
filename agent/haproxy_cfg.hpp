// Pure: HAProxy's configuration files as sections, lines and words, for `check`.
//
// Tolerant, for HAProxy itself has taken the files: what is not known here stays as words. Of an `.if` every branch is
// read, so that a line in any of them counts as there.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::agent {

using cfg_words = std::vector<std::string>;

struct cfg_section {
    std::string kind; // "global", "defaults", "listen", "backend", ...
    std::string name; // empty: none
    // Never an empty line; those that a proxy has from its `defaults` come first.
    std::vector<cfg_words> lines;
};

using cfg_environment = std::map<std::string, std::string, std::less<>>;

// Appends the sections of one file. The files of one HAProxy go one after the other into the same `sections`: the last
// `defaults` of one is in force in the next.
void read_haproxy_cfg(std::vector<cfg_section>& sections, std::string_view text, const cfg_environment& environment);

// The last line that begins with these words; nullptr where there is none, or where a `no` took it back.
const cfg_words* last_line(const cfg_section& section, std::initializer_list<std::string_view> words);

// A `server` or `server-template` with all that holds for it: the words of the `default-server` lines before it, then
// its own, from behind its address on.
struct cfg_server {
    std::string name; // of a template: its prefix
    cfg_words options;
};

std::vector<cfg_server> servers_of(const cfg_section& section);

// The word behind the last `option`; nullptr where there is none.
const std::string* value_of(const cfg_words& options, std::string_view option);

} // namespace pointsman::agent
