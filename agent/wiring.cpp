#include "agent/wiring.hpp"

#include <fmt/format.h>

#include <fstream>
#include <stdexcept>

namespace pointsman::agent {

namespace {

std::string read_password(const std::string& path) {
    std::ifstream file(path);
    std::string password;
    if (!std::getline(file, password) || password.empty())
        throw std::runtime_error(fmt::format("etcd.password_file: cannot read a password from {}", path));
    return password;
}

etcd_http::tls_context make_tls(const config::tls_settings& settings) {
    auto context = etcd_http::make_tls_context({settings.ca_file, settings.cert_file, settings.key_file});
    if (context.has_error())
        throw std::runtime_error(context.error().detail);
    return *context;
}

} // namespace

runtime_api::socket_target haproxy_target(const config::settings& settings) {
    const config::socket_target& socket = settings.haproxy.socket;
    return {socket.path, socket.host, socket.port};
}

std::set<std::string> backends_of(const config::settings& settings) {
    std::set<std::string> result;
    for (const auto& cluster : settings.clusters) {
        for (const auto& pool : cluster.pools)
            result.insert(pool.backend);
    }
    return result;
}

etcd_http::gateway_settings gateway_settings(const config::etcd_settings& settings) {
    etcd_http::gateway_settings result;
    bool any_tls = false;
    for (const config::endpoint& e : settings.endpoints) {
        result.endpoints.push_back({e.tls, e.host, e.port});
        any_tls = any_tls || e.tls;
    }
    result.username = settings.username;
    if (!settings.username.empty())
        result.password = read_password(settings.password_file);
    if (any_tls)
        result.tls = make_tls(settings.tls);
    result.poll_interval = settings.poll_interval;
    return result;
}

etcd_http::tls_context probe_tls(const config::probe_settings& settings) {
    const bool configured = !settings.tls.ca_file.empty() || !settings.tls.cert_file.empty();
    return configured ? make_tls(settings.tls) : nullptr;
}

} // namespace pointsman::agent
