// Pure: see haproxy_config.hpp.
#include "agent/haproxy_config.hpp"

#include <fmt/format.h>

#include <cstdint>

namespace pointsman::agent {
namespace {

// HAProxy splits a line at blanks and ends it at `#`.
std::string word(std::string_view text) {
    std::string escaped;
    for (const char c : text) {
        if (std::string_view(" \\#\"'").find(c) != std::string_view::npos)
            escaped += '\\';
        escaped += c;
    }
    return escaped;
}

std::string host_and_port(const std::string& host, std::uint16_t port) {
    const bool is_v6 = host.find(':') != std::string::npos;
    return is_v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

std::string global_section(const config::haproxy_settings& haproxy, std::string_view hold_lua) {
    std::string text = "\nglobal\n";
    if (haproxy.socket.path.empty()) {
        text += fmt::format(
            "    # The agent sets the slots here, and whoever else reaches it may too: prefer a unix socket.\n    {}\n",
            haproxy_line::stats_socket(haproxy));
    } else {
        text += fmt::format(
            "    # The agent sets the slots here. `expose-fd listeners`: a reload refuses no connection.\n    {}\n",
            haproxy_line::stats_socket(haproxy));
    }
    if (!haproxy.state_file.empty()) {
        text += fmt::format(
            R"(    # Kept current by the agent: HAProxy starts with the slots as they were, even without the agent.
    # It warns while the file is missing, that is before the agent's first pass.
    {}
)",
            haproxy_line::state_file(haproxy));
    }
    if (!hold_lua.empty())
        text += fmt::format("    # The action `hold` of the pools.\n    lua-load {}\n", word(hold_lua));
    return text;
}

std::string defaults_section(const config::haproxy_settings& haproxy) {
    std::string text = R"(
defaults
    mode tcp
    timeout connect 2s
    # An idle PostgreSQL session is no fault: the longest HAProxy can count. Keep-alives find peers that are gone.
    timeout client 24d
    timeout server 24d
    option clitcpka
    option srvtcpka
)";
    if (!haproxy.state_file.empty())
        text += fmt::format("    {}\n", haproxy_line::load_state);
    return text;
}

// Where a process that was replaced finds the one that replaced it.
std::string own_port(const config::listen_address& bind) {
    const bool any = bind.host.empty() || bind.host == "0.0.0.0";
    return host_and_port(any ? "127.0.0.1" : bind.host == "::" ? "::1" : bind.host, bind.port);
}

// While no slot is usable, the server `hold` is, and a connection waits in retries on its closed port, a second each;
// with Lua most never come so far (hold.lua). The count of free connections tells the two apart, for `nbsrv` does not.
std::string hold_lines(const std::string& backend, bool lua, bool binds) {
    std::string text = "    # While no slot is usable, new connections wait";
    if (lua)
        text += fmt::format(
            R"( in hold.lua, which gives up just before `inspect-delay`.
    {}
    {}
{}    # What a dying slot refuses is tried again every second, on another slot or, while there is none, on a closed port:
    # `hold` must be refused, and only it may have a million connections free.
)",
            haproxy_line::inspect_delay, haproxy_line::hold(backend),
            binds ? fmt::format("    # Those that wait when HAProxy is reloaded go on to the new process.\n    {}\n",
                                haproxy_line::go_on(backend))
                  : "");
    else
        text += R"(: they are tried every second on `hold`, a closed port that refuses
    # them, until there is a slot.
)";
    return text + fmt::format("    {}\n    {}\n    {}\n", haproxy_line::hold_server, haproxy_line::retries,
                              haproxy_line::redispatch);
}

std::string pool_section(const config::pool_settings& pool, const config::tls_settings& tls, bool lua) {
    std::string head;
    if (pool.bind) {
        head = fmt::format("listen {}\n    bind {}\n", pool.backend, host_and_port(pool.bind->host, pool.bind->port));
    } else {
        head = fmt::format("# No `bind` in pointsman.yml: a frontend of yours leads here.\nbackend {}\n", pool.backend);
    }

    const bool own_certificate = !tls.ca_file.empty() && !tls.cert_file.empty();
    return fmt::format(
        R"(
# {role}
{head}{hold}    # HAProxy's own check is the backstop: slower than the agent, and all there is while the agent does not run.
    {check}
    http-check expect status 200
    # A slot that goes down or into maintenance loses its sessions: nobody stays with a dead or demoted server.
    {default_server}
    # The slots, for 8 members at most. The name is never resolved: from the state file HAProxy restores the
    # addresses of servers with a name only. 8008 is the port of Patroni's REST API.
{tls_note}    {slots}
{anew})",
        fmt::arg("role", pool.role == config::pool_role::primary ? "The primary: reads and writes."
                         : pool.fallback_primary                 ? "The replicas; the primary while no replica is fit."
                                                                 : "The replicas."),
        fmt::arg("head", head), fmt::arg("hold", hold_lines(pool.backend, lua, pool.bind.has_value())),
        fmt::arg("check", haproxy_line::check(pool)), fmt::arg("default_server", haproxy_line::default_server),
        fmt::arg(
            "tls_note",
            own_certificate
                ? "    # Where Patroni has `verify_client: required`, add `crt`: one file with certificate and key.\n"
                : ""),
        fmt::arg("slots", haproxy_line::slots(pool, tls)),
        fmt::arg("anew", lua && pool.bind ? fmt::format("\nbackend {}_anew\n    server self {}\n", pool.backend,
                                                        own_port(*pool.bind))
                                          : ""));
}

} // namespace

namespace haproxy_line {

std::string stats_socket(const config::haproxy_settings& haproxy) {
    if (haproxy.socket.path.empty())
        return fmt::format("stats socket {} level admin", host_and_port(haproxy.socket.host, haproxy.socket.port));
    return fmt::format("stats socket {} mode 660 group haproxy level admin expose-fd listeners",
                       word(haproxy.socket.path));
}

std::string state_file(const config::haproxy_settings& haproxy) {
    return "server-state-file " + word(haproxy.state_file);
}

std::string hold(std::string_view backend) {
    return fmt::format("tcp-request content lua.hold {0} if {{ be_conn_free({0}) ge 1000000 }}", backend);
}

std::string go_on(std::string_view backend) {
    return fmt::format("use_backend {0}_anew if {{ stopping }} {{ be_conn_free({0}) ge 1000000 }}", backend);
}

std::string check_path(const config::pool_settings& pool) {
    return pool.fallback_primary ? "/read-only" : pool.check.substr(0, pool.check.find('?'));
}

std::string check(const config::pool_settings& pool) {
    return "option httpchk HEAD " + word(check_path(pool));
}

std::string slots(const config::pool_settings& pool, const config::tls_settings& tls, std::size_t number,
                  unsigned check_port) {
    return fmt::format("server-template pg 1-{} slot.invalid:1 init-addr last,127.0.0.1 check port {}{}{} disabled",
                       number, check_port,
                       tls.ca_file.empty() ? "" : " check-ssl verify required ca-file " + word(tls.ca_file),
                       pool.weight ? fmt::format(" weight {}", pool.weight->base) : "");
}

} // namespace haproxy_line

std::string haproxy_config(const config::settings& settings, std::string_view hold_lua) {
    std::string text =
        R"(# HAProxy for Pointsman, as printed by `pointsman haproxy-config`. The host's own lines (log, user, chroot,
# other proxies) go beside it, here or in a file of their own: haproxy -f ONE -f OTHER.
)";
    text += global_section(settings.haproxy, hold_lua);
    text += defaults_section(settings.haproxy);
    for (const auto& cluster : settings.clusters) {
        for (const auto& pool : cluster.pools)
            text += pool_section(pool, cluster.probe.tls, !hold_lua.empty());
    }
    return text;
}

} // namespace pointsman::agent
