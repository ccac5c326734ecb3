// Pure: see preflight_haproxy.hpp.
#include "agent/preflight_haproxy.hpp"

#include "agent/haproxy_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <set>
#include <string_view>
#include <tuple>

namespace pointsman::agent {

namespace {

using namespace std::chrono_literals;
using findings = std::vector<finding>;

constexpr std::uint64_t free_connections_of_hold = 1'000'000; // hold.lua tells an empty pool by as many

// --- HAProxy's words

using version = std::tuple<unsigned, unsigned, unsigned>;

// `2.6.12-1+deb12u4`; the last number of a `3.5-dev5` is 0.
version version_of(const runtime_api::process_info& process) {
    unsigned patch = 0;
    const auto dot = process.version.find('.', process.version.find('.') + 1);
    if (dot != std::string::npos)
        std::from_chars(process.version.data() + dot + 1, process.version.data() + process.version.size(), patch);
    return {process.major, process.minor, patch};
}

// `24d`, `40s`, `50000`: milliseconds without a unit. nullopt where it is not a time.
std::optional<std::chrono::milliseconds> parse_time(std::string_view text) {
    std::int64_t number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    // The longest that HAProxy counts is 24 days; a number that would overflow below is none.
    if (error != std::errc() || number < 0 || number > 1'000'000'000'000)
        return std::nullopt;
    const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    if (unit == "us")
        return std::chrono::milliseconds(number / 1000);
    constexpr std::array<std::pair<std::string_view, std::int64_t>, 6> units = {
        {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}}};
    for (const auto& [name, factor] : units) {
        if (unit == name && number <= 1'000'000'000'000 / factor)
            return std::chrono::milliseconds(number * factor);
    }
    return std::nullopt;
}

const cfg_section* find_pool(const std::vector<cfg_section>& sections, std::string_view backend) {
    const auto found = std::find_if(sections.begin(), sections.end(), [backend](const cfg_section& s) {
        return s.name == backend && (s.kind == "listen" || s.kind == "backend");
    });
    return found == sections.end() ? nullptr : &*found;
}

// All `global` sections in one.
cfg_section global_of(const std::vector<cfg_section>& sections) {
    cfg_section global{"global", "", {}};
    for (const cfg_section& section : sections) {
        if (section.kind == "global")
            global.lines.insert(global.lines.end(), section.lines.begin(), section.lines.end());
    }
    return global;
}

bool has_word(const cfg_words& words, std::string_view word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

// The path that HAProxy's check asks for; nullopt where it looks at the open port alone.
std::optional<std::string> checked_path(const cfg_section& section) {
    const cfg_words* option = last_line(section, {"option", "httpchk"}); // [[METHOD] PATH [VERSION]]
    if (!option)
        return std::nullopt;
    if (const cfg_words* send = last_line(section, {"http-check", "send"})) {
        if (const std::string* uri = value_of(*send, "uri"))
            return *uri;
    }
    return option->size() < 3 ? "/" : option->size() == 3 ? (*option)[2] : (*option)[3];
}

// Patroni has several names for the same question.
std::string_view plain_name(std::string_view path) {
    return path == "/" || path == "/master" || path == "/read-write" ? "/primary" : path;
}

// Whether servers keep their weight at run time whatever it is set to. `hash-type consistent` makes the hashes dynamic.
bool is_static(std::string_view algorithm, bool consistent) {
    if (algorithm == "static-rr")
        return true;
    const bool dynamic = algorithm == "roundrobin" || algorithm == "leastconn" || algorithm == "random" ||
                         algorithm == "first" || algorithm.empty();
    return !dynamic && !consistent;
}

std::string listed(const std::vector<std::string>& all) {
    constexpr std::size_t most = 8;
    std::string text;
    for (std::size_t i = 0; i != std::min(all.size(), most); ++i)
        text += (i == 0 ? "" : ", ") + all[i];
    return all.size() > most ? fmt::format("{} and {} more", text, all.size() - most) : text;
}

// --- The process and its sockets

void judge_version(findings& found, const runtime_api::process_info& process) {
    const std::string about = "haproxy " + process.version;
    const version v = version_of(process);
    if (v < version{2, 4, 0})
        found.push_back({severity::warning, about, "Pointsman was tried with 2.4 and newer only",
                         "What this version answers may not be understood; the agent changes nothing then.",
                         "a HAProxy of 2.4 or newer"});
    // The last of each branch that was tried (facts 8, design 3).
    if (v <= version{2, 6, 12} || v == version{2, 8, 0} || v == version{3, 0, 0})
        found.push_back({severity::note, about,
                         "known bug: `set maxconn frontend NAME 0` and a later raise deadlock and abort HAProxy",
                         "Pointsman does not send it: connections wait in hold.lua. Nor should anybody by hand.", ""});
    if (v >= version{3, 4, 0})
        found.push_back({severity::note, about,
                         "known bug: no address is taken for a check (check-addr, 3.4.0 and newer)",
                         "Pointsman needs none: the check of a slot follows its address.", ""});
}

void judge_socket(findings& found, const config::settings& settings, const haproxy_seen& haproxy) {
    if (haproxy.level == "admin")
        return;
    found.push_back(
        {severity::wrong, "haproxy.cfg, global",
         fmt::format("the stats socket has level {}, not admin", haproxy.level.empty() ? "unknown" : haproxy.level),
         "The agent can look and change nothing: slots stay as they are, whoever leads.",
         haproxy_line::stats_socket(settings.haproxy)});
}

void judge_master(findings& found, const config::settings& settings, const haproxy_seen& haproxy) {
    const std::string& path = settings.haproxy.master_socket;
    if (haproxy.master_failed) {
        found.push_back({severity::wrong, "haproxy.master_socket", haproxy.master_failed->detail,
                         "After a reload, sessions that old workers hold on a demoted node are not cut (R9).",
                         fmt::format("/etc/default/haproxy: EXTRAOPTS=\"-S {},mode,660,group,haproxy\"", path)});
    } else if (!path.empty()) {
        found.push_back({severity::well, "haproxy.master_socket", path + " answers"});
    } else if (haproxy.has_master) {
        found.push_back({severity::note, "haproxy.master_socket", "not set, and HAProxy has a master process",
                         "After a reload, sessions that old workers hold on a demoted node are not cut (R9).",
                         "pointsman.yml: haproxy.master_socket: /run/haproxy-master.sock"});
    }
}

// --- The files

void judge_global(findings& found, const config::settings& settings, const cfg_section& global) {
    const std::string about = "haproxy.cfg, global";
    const auto& own = settings.haproxy;
    const bool hands_over = std::any_of(global.lines.begin(), global.lines.end(), [](const cfg_words& line) {
        return line.size() > 2 && line[0] == "stats" && line[1] == "socket" && has_word(line, "expose-fd");
    });
    if (!own.socket.path.empty() && !hands_over)
        found.push_back({severity::wrong, about, "no stats socket with `expose-fd listeners`",
                         "A reload closes the ports for a moment: connections are refused.",
                         haproxy_line::stats_socket(own)});

    const cfg_words* line = last_line(global, {"server-state-file"});
    const cfg_words* base = last_line(global, {"server-state-base"});
    std::filesystem::path file = line && line->size() > 1 ? (*line)[1] : "";
    if (file.is_relative() && !file.empty() && base && base->size() > 1)
        file = std::filesystem::path((*base)[1]) / file;
    const std::string known = file.lexically_normal().string();
    const std::string wanted = std::filesystem::path(own.state_file).lexically_normal().string();
    if (own.state_file.empty() && !known.empty())
        found.push_back(
            {severity::wrong, about, fmt::format("HAProxy restores its slots from {}, which nobody keeps", known),
             "A restart brings back members and roles of long ago.", "pointsman.yml: haproxy.state_file: " + known});
    else if (!own.state_file.empty() && known.empty())
        found.push_back({severity::wrong, about, "no `server-state-file`",
                         "A restarted or reloaded HAProxy has no usable slot until the agent has set them again.",
                         haproxy_line::state_file(own)});
    else if (known != wanted)
        found.push_back({severity::wrong, about,
                         fmt::format("`server-state-file {}` is not the file that the agent keeps, {}", known, wanted),
                         "A restarted or reloaded HAProxy has old slots, or none, until the agent has set them again.",
                         haproxy_line::state_file(own)});
    // HAProxy warns of each slot that it restores (facts 5.1).
    if (last_line(global, {"zero-warning"}) && !known.empty())
        found.push_back({severity::wrong, about, "`zero-warning` beside a state file",
                         "HAProxy warns of slots that it restores, and then refuses to start.",
                         "remove the line zero-warning"});
}

void judge_state_file(findings& found, const config::settings& settings, const haproxy_seen& haproxy) {
    const std::string& file = settings.haproxy.state_file;
    const std::string about = "haproxy.state_file";
    if (file.empty())
        found.push_back({severity::warning, about, "not set",
                         "A restarted or reloaded HAProxy has no usable slot until the agent has set them again.",
                         "pointsman.yml: haproxy.state_file: /var/lib/pointsman/haproxy.state"});
    else if (!haproxy.state_trouble.empty())
        found.push_back({severity::wrong, about, haproxy.state_trouble,
                         "The file is not kept: a restarted HAProxy begins with its slots of before, or with none.",
                         "a folder that the agent's user may write: StateDirectory=pointsman in pointsman.service, and "
                         "haproxy.state_file: /var/lib/pointsman/haproxy.state"});
    else if (!haproxy.state_file_there)
        found.push_back({severity::warning, about, file + " is not there yet",
                         "HAProxy warns of it when it starts; the agent writes it in its first pass.",
                         "systemctl start pointsman"});
    else
        found.push_back({severity::well, about, file});
}

// --- A pool

// One pool and what is found of it.
class pool_judge {
public:
    pool_judge(const config::pool_settings& pool, const config::tls_settings& tls, const haproxy_seen& haproxy,
               const etcd_http::cluster_view* view)
        : pool_(pool), tls_(tls), haproxy_(haproxy), view_(view) {}

    findings judge() {
        const auto backend = haproxy_.backends.find(pool_.backend);
        if (backend == haproxy_.backends.end()) {
            wrong("HAProxy has no such backend", "Nobody can connect to this pool.",
                  fmt::format("`pointsman haproxy-config` prints it, from `{} {}` on",
                              pool_.bind ? "listen" : "backend", pool_.backend));
            return std::move(found_);
        }
        for (const auto& server : haproxy_.servers) {
            if (server.id.backend() == pool_.backend)
                slots_.push_back(&server);
        }
        const cfg_section* section = find_pool(haproxy_.sections, pool_.backend);
        if (backend->second.mode != "tcp")
            wrong(fmt::format("mode is {}, not tcp", backend->second.mode),
                  "HAProxy waits for requests of a protocol that PostgreSQL does not speak.", "mode tcp");
        judge_slots(section);
        judge_weights(backend->second, section);
        judge_hold(backend->second, section);
        if (section)
            judge_section(*section);
        else if (haproxy_.unread.empty())
            add(severity::warning, "not in the configuration files that were read",
                "They are not what HAProxy was started with: it runs in a file system of its own, or they have "
                "changed.",
                "run `pointsman check` where HAProxy runs, after a reload");
        if (std::none_of(found_.begin(), found_.end(), [](const finding& f) { return f.how >= severity::warning; }))
            add(severity::well, summary(backend->second), "", "");
        return std::move(found_);
    }

private:
    void add(severity how, std::string what, std::string meaning, std::string mend) {
        found_.push_back({how, "backend " + pool_.backend, std::move(what), std::move(meaning), std::move(mend)});
    }

    void wrong(std::string what, std::string meaning, std::string mend) {
        add(severity::wrong, std::move(what), std::move(meaning), std::move(mend));
    }

    std::size_t members() const {
        if (!view_)
            return 0;
        return static_cast<std::size_t>(
            std::count_if(view_->members.begin(), view_->members.end(), [this](const auto& m) {
                return (pool_.use_proxy_url ? m.second.proxy : m.second.connect).has_value();
            }));
    }

    std::string slots_line() const { return haproxy_line::slots(pool_, tls_, std::max(slots_.size(), members() + 4)); }

    template<class Condition>
    std::vector<std::string> slots_that(Condition condition) const {
        std::vector<std::string> names;
        for (const auto* slot : slots_) {
            if (condition(*slot))
                names.push_back(slot->id.server());
        }
        return names;
    }

    void wrong_slots(const std::vector<std::string>& names, std::string_view what, std::string meaning) {
        if (!names.empty())
            wrong(fmt::format("{}: {}", what,
                              names.size() == slots_.size() ? fmt::format("all {}", names.size()) : listed(names)),
                  std::move(meaning), slots_line());
    }

    void judge_slots(const cfg_section* section) {
        using runtime_api::declared_server;
        if (slots_.empty()) {
            wrong("no slot", "No member can be served.", slots_line());
            return;
        }
        const version v = version_of(haproxy_.process);
        wrong_slots(slots_that([](const declared_server& s) { return !s.addressable; }),
                    "slots without an address (`init-addr none`)",
                    v < version{2, 9, 0}
                        ? "HAProxy refuses to give them one: no member can be served there. This version "
                          "even takes them for UP (GH#2768)."
                        : "HAProxy refuses to give them one: no member can be served there.");
        wrong_slots(
            slots_that([](const declared_server& s) { return s.addressable && !s.named; }),
            "slots declared with a literal address",
            "The state file does not restore their address (GH#3265): a restart would route to the literal one.");
        wrong_slots(
            slots_that([](const declared_server& s) { return !s.disabled; }), "slots not declared `disabled`",
            "A restarted HAProxy takes them for UP before the agent has looked: clients reach nobody, or a node "
            "with another role.");
        wrong_slots(slots_that([](const declared_server& s) { return !s.checked; }), "slots without `check`",
                    "While the agent is not there, nobody takes a dead or demoted node out.");
        wrong_slots(slots_that([](const declared_server& s) { return s.own_check_address; }),
                    "slots with a check address of their own (`addr`)",
                    "Their check does not follow their address: another node's answers decide.");
        judge_check_port(section);

        const std::size_t usable =
            slots_.size() - slots_that([](const declared_server& s) { return !s.addressable; }).size();
        if (usable == 0 || !view_)
            return;
        if (usable < members())
            wrong(fmt::format("{} slots for {} members", usable, members()),
                  fmt::format("{} of them cannot be served.", members() - usable), slots_line());
        else if (usable == members())
            add(severity::warning, fmt::format("{} slots for {} members: none is free", usable, members()),
                "A member that joins is not served before one of these has left.", slots_line());
    }

    std::vector<std::pair<std::string, std::uint16_t>> rest_ports() const {
        std::vector<std::pair<std::string, std::uint16_t>> ports;
        if (!view_)
            return ports;
        for (const auto& [name, record] : view_->members) {
            if (record.rest)
                ports.emplace_back(name, record.rest->where.port);
        }
        return ports;
    }

    // What HAProxy does now, and what it is to do by its files: it takes even the check's port from the state file
    // (facts 5.1), so that a change of it in haproxy.cfg alone has no effect.
    void judge_check_port(const cfg_section* section) {
        std::set<std::uint32_t> ports; // 0: that of the address
        for (const auto* slot : slots_) {
            if (slot->checked)
                ports.insert(slot->check_port);
        }
        if (section) {
            for (const cfg_server& server : servers_of(*section)) {
                const std::string* port = value_of(server.options, "port");
                std::uint32_t number = 0;
                if (port)
                    std::from_chars(port->data(), port->data() + port->size(), number);
                if (server.name != runtime_api::hold_server && has_word(server.options, "check"))
                    ports.insert(number);
            }
        }
        for (const std::uint32_t port : ports) {
            std::vector<std::string> elsewhere;
            unsigned rest_port = 8008;
            for (const auto& [name, rest] : rest_ports()) {
                if (rest == port)
                    continue;
                elsewhere.push_back(name);
                rest_port = rest;
            }
            const std::string mend = haproxy_line::slots(pool_, tls_, slots_.size(), rest_port);
            if (port == 0)
                wrong("slots without `check port`",
                      "HAProxy asks PostgreSQL's own port for a health path and finds every member down.", mend);
            else if (!elsewhere.empty())
                wrong(fmt::format("`check port {}` is not the port of the REST API of {}", port, listed(elsewhere)),
                      "HAProxy's check finds it down: its sessions are cut as soon as it gets its slot.", mend);
        }
    }

    void judge_weights(const runtime_api::backend_statistics& backend, const cfg_section* section) {
        if (!pool_.weight)
            return;
        const cfg_words* hash = section ? last_line(*section, {"hash-type"}) : nullptr;
        const bool consistent = hash && has_word(*hash, "consistent");
        if (backend.algorithm == "first")
            wrong("`balance first` knows no weights", "The `weight` of pointsman.yml has no effect.",
                  "balance roundrobin");
        else if (is_static(backend.algorithm, consistent) && (section || backend.algorithm == "static-rr"))
            wrong(fmt::format("`balance {}` is static", backend.algorithm),
                  "HAProxy refuses every weight but 0 % and 100 %: the `weight` of pointsman.yml has no effect.",
                  "balance roundrobin");
    }

    void judge_hold(const runtime_api::backend_statistics& backend, const cfg_section* section) {
        const std::string server(haproxy_line::hold_server);
        if (!backend.held)
            wrong("no server `hold`", "While it has no usable slot, its new connections fail instead of waiting.",
                  server);
        else if (!backend.held->backup)
            wrong("the server `hold` is no backup", "It gets connections while slots are usable, and they fail.",
                  server);
        else if (backend.held->maxconn < free_connections_of_hold)
            wrong("the server `hold` has no `maxconn 2000000`",
                  "By its free connections hold.lua tells that no slot is usable: nobody would wait.", server);
        if (!section)
            return;
        const cfg_words* rule = nullptr;
        bool goes_on = false;
        for (const cfg_words& line : section->lines) {
            if (line.size() > 2 && line[0] == "tcp-request" && line[1] == "content" && line[2] == "lua.hold")
                rule = &line;
            goes_on |= line[0] == "use_backend" && has_word(line, "stopping");
        }
        if (!rule) {
            const bool has_lua = last_line(global_of(haproxy_.sections), {"lua-load"}) != nullptr;
            if (has_lua)
                wrong("no `tcp-request content lua.hold`",
                      "While it has no usable slot, its new connections look for one once a second only, 40 times.",
                      haproxy_line::hold(pool_.backend));
            return;
        }
        if (rule->size() < 4 || (*rule)[3] != pool_.backend)
            wrong(fmt::format("`lua.hold {}` waits for another pool", rule->size() < 4 ? "" : (*rule)[3]),
                  "Its new connections fail while it has no usable slot, or wait for nothing.",
                  haproxy_line::hold(pool_.backend));
        const cfg_words* delay = last_line(*section, {"tcp-request", "inspect-delay"});
        const auto time = delay && delay->size() > 2 ? parse_time((*delay)[2]) : std::nullopt;
        if (time.value_or(0ms) < 40s)
            wrong("no `tcp-request inspect-delay` of 40 s",
                  "HAProxy ends the wait for a usable slot before hold.lua does, with an alert for each connection.",
                  std::string(haproxy_line::inspect_delay));
        if (pool_.bind && !goes_on)
            add(severity::warning, "no `use_backend ... if { stopping }`",
                "Connections that wait when HAProxy is reloaded stay with the old process, whose slots never change "
                "again.",
                haproxy_line::go_on(pool_.backend) + ", and the backend to it");
    }

    void judge_section(const cfg_section& section) {
        judge_retries(section);
        judge_check(section);
        judge_options(section);
        const cfg_words* load = last_line(section, {"load-server-state-from-file"});
        if (last_line(global_of(haproxy_.sections), {"server-state-file"}) &&
            (!load || load->size() < 2 || (*load)[1] != "global"))
            wrong("no `load-server-state-from-file global`",
                  "A restarted or reloaded HAProxy has no usable slot until the agent has set them again.",
                  std::string(haproxy_line::load_state));
        for (const char* side : {"client", "server"}) {
            const cfg_words* line = last_line(section, {"timeout", side});
            const auto time = line && line->size() > 2 ? parse_time((*line)[2]) : std::nullopt;
            if (time && *time < 1h)
                add(severity::warning, fmt::format("`timeout {} {}`", side, (*line)[2]),
                    "Sessions that idle for so long are cut, though nothing is wrong with them.",
                    fmt::format("timeout {} 24d", side));
        }
    }

    void judge_retries(const cfg_section& section) {
        constexpr std::int64_t long_enough = 30; // seconds, for there is one a second: Patroni's default ttl
        const cfg_words* retries = last_line(section, {"retries"});
        std::int64_t number = 3; // HAProxy's default
        if (retries && retries->size() > 1)
            std::from_chars((*retries)[1].data(), (*retries)[1].data() + (*retries)[1].size(), number);
        if (number < long_enough)
            wrong(
                fmt::format("`retries {}`{}", number, retries ? "" : " (the default)"),
                "A connection that a dying slot refused is given up after as many seconds, before another node leads.",
                std::string(haproxy_line::retries));
        const cfg_words* redispatch = last_line(section, {"option", "redispatch"});
        if (!redispatch || redispatch->size() < 3 || (*redispatch)[2] != "1")
            wrong("no `option redispatch 1`",
                  "A connection that a dying slot refused is tried there again, not on the slot that took over.",
                  std::string(haproxy_line::redispatch));
    }

    void judge_check(const cfg_section& section) {
        const std::string wanted = haproxy_line::check_path(pool_);
        const auto path = checked_path(section);
        if (!path)
            wrong("no `option httpchk`",
                  "HAProxy's check takes an open port for a yes: while the agent is not there, nobody takes a demoted "
                  "node out.",
                  haproxy_line::check(pool_));
        else if (plain_name(*path) != plain_name(wanted))
            wrong(fmt::format("HAProxy checks {}, not {}", *path, wanted),
                  "It contradicts the agent: cuts the sessions of slots that the agent keeps, or keeps those that it "
                  "cuts.",
                  haproxy_line::check(pool_));
    }

    // What holds for the slots and is in the files alone.
    void judge_options(const cfg_section& section) {
        bool cuts = true;
        bool restores = true;
        std::vector<std::string> resolved;
        bool encrypted = true;
        bool plain = true;
        bool rises_at_once = false;
        bool has_init_state = false;
        for (const cfg_server& server : servers_of(section)) {
            if (server.name == runtime_api::hold_server)
                continue;
            const std::string* marked_down = value_of(server.options, "on-marked-down");
            cuts &= marked_down && *marked_down == "shutdown-sessions";
            const std::string* init = value_of(server.options, "init-addr");
            restores &= !init || has_word_in_list(*init, "last"); // it is in HAProxy's default
            if (value_of(server.options, "resolvers"))
                resolved.push_back(server.name);
            const bool tls = has_word(server.options, "check-ssl");
            encrypted &= tls;
            plain &= !tls;
            const std::string* rise = value_of(server.options, "rise");
            rises_at_once |= rise && *rise == "1";
            has_init_state |= has_word(server.options, "init-state");
        }
        const std::string defaults(haproxy_line::default_server);
        if (!cuts)
            wrong("slots without `on-marked-down shutdown-sessions`",
                  "Sessions stay with a node that HAProxy's check found dead or demoted, while the agent is not there.",
                  defaults);
        if (rises_at_once)
            wrong(
                "slots with `rise 1`",
                "A check that was under way to the node before is taken for one of the next: it may be UP for a second "
                "unseen.",
                defaults);
        const bool addressable = slots_that([](const auto& s) { return !s.addressable; }).empty(); // else that was told
        if (!restores && addressable)
            wrong("slots with an `init-addr` without `last`",
                  "A restarted HAProxy does not take their addresses from the state file.", slots_line());
        if (!resolved.empty())
            wrong("slots with `resolvers`: " + listed(resolved),
                  "HAProxy's own name resolution changes the addresses that the agent sets.", slots_line());
        // With `disabled`, tried on 3.2.0 and 3.4.0 (facts 5.1).
        if (has_init_state)
            wrong("slots with `init-state`",
                  "After a restart or reload every slot in service is DOWN until its checks have passed.",
                  slots_line());
        judge_tls(encrypted, plain);
    }

    void judge_tls(bool encrypted, bool plain) {
        if (!view_)
            return;
        bool any_tls = false;
        bool any_plain = false;
        for (const auto& [name, record] : view_->members) {
            any_tls |= record.rest && record.rest->tls;
            any_plain |= record.rest && !record.rest->tls;
        }
        if (any_tls && !encrypted)
            wrong("the REST APIs speak https, and the slots have no `check-ssl`",
                  "HAProxy's check finds every member down: sessions are cut as soon as a slot is used.",
                  slots_line() + (tls_.ca_file.empty() ? ", with check-ssl verify required ca-file FILE" : ""));
        else if (any_plain && !plain)
            wrong("the REST APIs speak http, and the slots have `check-ssl`",
                  "HAProxy's check finds every member down: sessions are cut as soon as a slot is used.", slots_line());
    }

    // `last,libc,none`
    static bool has_word_in_list(std::string_view list, std::string_view word) {
        while (!list.empty()) {
            const auto end = std::min(list.find(','), list.size());
            if (list.substr(0, end) == word)
                return true;
            list.remove_prefix(std::min(end + 1, list.size()));
        }
        return false;
    }

    std::string summary(const runtime_api::backend_statistics& backend) const {
        std::string text = fmt::format("{} slots", slots_.size());
        if (view_)
            text += fmt::format(" for {} members", members());
        if (pool_.weight)
            text += fmt::format(", balance {}", backend.algorithm);
        return text;
    }

    const config::pool_settings& pool_;
    const config::tls_settings& tls_;
    const haproxy_seen& haproxy_;
    const etcd_http::cluster_view* view_;
    std::vector<const runtime_api::declared_server*> slots_;
    findings found_;
};

// The same mistake in several pools, mostly one in `defaults`, is told once.
void add_of_pool(findings& all, finding f, std::size_t first) {
    for (std::size_t i = first; f.how != severity::well && i != all.size(); ++i) {
        if (all[i].how == f.how && all[i].what == f.what && all[i].meaning == f.meaning) {
            all[i].about += ", " + f.about.substr(f.about.find(' ') + 1);
            if (all[i].mend != f.mend)
                all[i].mend += '\n' + f.mend;
            return;
        }
    }
    all.push_back(std::move(f));
}

} // namespace

std::vector<finding> judge_haproxy(const config::settings& settings, const haproxy_seen& haproxy,
                                   std::span<const etcd_http::cluster_view* const> views) {
    findings found;
    if (haproxy.failed) {
        found.push_back(
            {severity::silent, "HAProxy", haproxy.failed->detail,
             "The agent cannot set a slot: whoever leads, HAProxy goes on with what it has.",
             "systemctl status haproxy; haproxy.cfg, global: " + haproxy_line::stats_socket(settings.haproxy)});
        return found;
    }
    found.push_back({severity::well, "haproxy " + haproxy.process.version,
                     fmt::format("process {}, level {}", haproxy.process.pid, haproxy.level)});
    judge_version(found, haproxy.process);
    judge_socket(found, settings, haproxy);
    judge_master(found, settings, haproxy);
    judge_state_file(found, settings, haproxy);
    if (haproxy.unread.empty()) {
        found.push_back({severity::well, "haproxy.cfg", "read from " + listed(haproxy.files)});
        if (haproxy.changed)
            found.push_back({severity::warning, "haproxy.cfg", "changed after HAProxy was started",
                             "What is said of it here is not yet, or no longer, so.", "systemctl reload haproxy"});
        judge_global(found, settings, global_of(haproxy.sections));
    } else {
        found.push_back(
            {severity::warning, "haproxy.cfg", "not checked: " + haproxy.unread,
             "What the socket does not tell (hold, checks, state file, sessions of dead nodes) is not known.",
             "run `pointsman check` as root on HAProxy's host"});
    }
    const std::size_t first = found.size();
    for (std::size_t i = 0; i != settings.clusters.size(); ++i) {
        const config::cluster_settings& cluster = settings.clusters[i];
        for (const config::pool_settings& pool : cluster.pools) {
            for (finding& f : pool_judge(pool, cluster.probe.tls, haproxy, views[i]).judge())
                add_of_pool(found, std::move(f), first);
        }
    }
    return found;
}

} // namespace pointsman::agent
