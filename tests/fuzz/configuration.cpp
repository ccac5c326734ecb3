// The configuration file as a text, and the configuration of HAProxy that is made of it. No file is read.
#include "tests/fuzz/laws.hpp"

#include "agent/haproxy_config.hpp"
#include "config/load.hpp"

#include <chrono>
#include <set>
#include <string>

using namespace pointsman;
using namespace pointsman::fuzz;

namespace {

using namespace std::chrono_literals;

bool is_line(std::string_view text) {
    return !text.empty() && !has_control(text) && is_utf8(text);
}

void check_pool(const config::pool_settings& pool) {
    must(is_line(pool.backend) && pool.backend.find_first_of(" #\"'\\") == std::string::npos,
         "a backend's name is a word of HAProxy's");
    must(pool.check.starts_with('/') && pool.check.find(' ') == std::string::npos && is_line(pool.check),
         "a check is fit for a request's line");
    must(!pool.bind || pool.bind->port != 0, "a port is 1 to 65535");
    must(!pool.fallback_primary || pool.role == config::pool_role::replica, "only readers fall back");
    if (pool.weight) {
        must(pool.weight->base >= 1 && pool.weight->base <= 256, "a weight is 1 to 256");
        must(!pool.weight->lag || pool.weight->lag->from < pool.weight->lag->to, "a lag goes from less to more");
    }
}

void check_settings(const config::settings& settings) {
    must(!settings.etcd.endpoints.empty() && !settings.clusters.empty(), "what is required is there");
    must(!settings.haproxy.socket.path.empty() || settings.haproxy.socket.port != 0, "HAProxy has a socket");
    for (const auto& e : settings.etcd.endpoints)
        must(is_line(e.host) && e.host.find_first_of(" /@") == std::string::npos && e.port != 0,
             "an endpoint has a host and a port");
    must(settings.etcd.poll_interval >= 500ms && settings.etcd.poll_interval <= 10min, "a duration is in its range");
    std::set<std::string> backends;
    std::set<std::string> prefixes;
    for (const auto& cluster : settings.clusters) {
        const std::string prefix = config::key_prefix(cluster);
        must(is_line(prefix) && prefix.starts_with('/') && prefix.ends_with('/') &&
                 prefix.find("//") == std::string::npos,
             "a cluster's prefix is a path");
        must(prefixes.insert(prefix).second, "a cluster is there once");
        must(!cluster.pools.empty(), "a cluster has pools");
        must(cluster.probe.interval >= 50ms && cluster.probe.timeout >= 50ms, "a duration is in its range");
        for (const auto& pool : cluster.pools) {
            check_pool(pool);
            must(backends.insert(pool.backend).second, "a backend is for one pool");
        }
    }
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        const config::settings settings = config::load_text(text_of(data, size), "pointsman.yml");
        check_settings(settings);
        for (const std::string& text : {agent::haproxy_config(settings), agent::haproxy_config(settings, "")})
            for (std::string_view rest = text; !rest.empty();)
                must_be_printable(take_line(rest));
    } catch (const config::config_error& error) {
        const std::string_view what = error.what();
        must_be_printable(what);
        must(what.starts_with("pointsman.yml:") && what.size() < 1000, "an error says where it is");
    }
    return 0;
}
