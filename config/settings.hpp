// Pure: everything that can be configured, with its default. The file that fills it is read by load.hpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pointsman::config {

struct socket_target {
    std::string path; // unix socket; empty: TCP
    std::string host; // a numeric address
    std::uint16_t port{};
};

struct haproxy_settings {
    socket_target socket;      // required
    std::string master_socket; // unix path of the master CLI; empty: not configured
    std::string state_file;    // where HAProxy's server-state file is kept current; empty: not kept
};

// Files in PEM. Empty: not configured; no CA file means the system's CAs.
struct tls_settings {
    std::string ca_file;
    std::string cert_file; // with key_file, or neither
    std::string key_file;
};

// One etcd endpoint, from a URL such as `https://etcd1.example.org:2379`.
struct endpoint {
    bool tls{};
    std::string host; // name or numeric address, without brackets
    std::uint16_t port{};
};

struct etcd_settings {
    std::vector<endpoint> endpoints; // required, at least one
    std::string username;
    std::string password_file; // its first line; read at start and at SIGHUP
    tls_settings tls;
    std::chrono::milliseconds poll_interval{5000};
};

struct probe_settings {
    std::chrono::milliseconds interval{1000};
    std::chrono::milliseconds timeout{1000};
    tls_settings tls;
};

enum class pool_role { primary, replica };

struct lag_settings {
    std::uint64_t from{}; // bytes behind the leader up to which a replica has its full weight
    std::uint64_t to{};   // bytes from which on it has the least; more than `from`
};

struct weight_settings {
    unsigned base{1}; // 1..256
    std::optional<lag_settings> lag;
};

struct listen_address {
    std::string host; // numeric; empty: every address
    std::uint16_t port{};
};

struct pool_settings {
    std::string backend;                // required; a name of HAProxy's
    pool_role role{};                   // required
    std::string check;                  // required; the path asked of Patroni's REST API, with its query
    std::optional<listen_address> bind; // used by `haproxy-config` only
    bool fallback_primary{};            // replica pools: reads go to the primary while no replica is fit
    bool use_proxy_url{};               // `address: proxy_url`: members are reached at their proxy_url
    std::optional<weight_settings> weight;
};

struct cluster_settings {
    std::string scope;                   // required
    std::string name_space{"/service/"}; // begins and ends with a slash
    std::optional<unsigned> group;       // Citus group
    probe_settings probe;
    std::vector<pool_settings> pools; // required, at least one
};

enum class log_level { debug, info, warning, error };

enum class log_format { text, json };

struct log_settings {
    log_level level{log_level::info};
    log_format format{log_format::text};
};

struct settings {
    haproxy_settings haproxy;
    etcd_settings etcd;
    std::vector<cluster_settings> clusters; // required, at least one
    std::optional<listen_address> listen{listen_address{"127.0.0.1", 9127}};
    log_settings log;
};

// The prefix of the cluster's keys in etcd: ends with a slash, so that scope `demo` never sees `demo2` (facts 1.1).
inline std::string key_prefix(const cluster_settings& cluster) {
    std::string prefix = cluster.name_space + cluster.scope + '/';
    return cluster.group ? prefix + std::to_string(*cluster.group) + '/' : prefix;
}

} // namespace pointsman::config
