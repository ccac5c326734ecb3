// Pure: the running HAProxy, and the configuration files that it was started with, compared with what they must hold
// (design 3; the lines are those of haproxy_config.hpp).
//
// What the socket tells is taken from there, for the files may have changed since HAProxy read them.
#pragma once

#include "agent/haproxy_cfg.hpp"
#include "agent/preflight.hpp"
#include "runtime_api/server_state.hpp"

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace pointsman::agent {

struct haproxy_seen {
    std::optional<runtime_api::failure>
        failed; // the socket did not answer as HAProxy's does; nothing else is known then
    runtime_api::process_info process;
    std::vector<runtime_api::declared_server> servers;
    std::map<std::string, runtime_api::backend_statistics> backends;
    std::string level; // "admin", "operator", "user"

    std::vector<std::string> files; // in the order in which HAProxy read them
    std::string unread;             // why they could not be read here; empty: `sections` is what is in them
    bool changed{};                 // after HAProxy was started
    std::vector<cfg_section> sections;

    bool has_master{};                                 // runs as a worker of a master process
    std::optional<runtime_api::failure> master_failed; // where haproxy.master_socket is set

    bool state_file_there{};
    std::string state_trouble; // why haproxy.state_file cannot be written by whoever runs `check`
};

// `views[i]`: the members of cluster i of the settings, nullptr where they are not known.
std::vector<finding> judge_haproxy(const config::settings& settings, const haproxy_seen& haproxy,
                                   std::span<const etcd_http::cluster_view* const> views);

} // namespace pointsman::agent
