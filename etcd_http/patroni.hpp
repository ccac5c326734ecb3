// Pure: Patroni's keys and values in etcd → what they say of the cluster (facts 1.1 to 1.3, Patroni 2.x to 4.x).
//
// Unknown keys are ignored, every field is optional, a field of a wrong type is as good as absent; Patroni reads its
// own keys the same way. What cannot be used is told in `refusals`, never dropped in silence and never an error of the
// whole.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::etcd_http {

// A host as it stands in a URL: a name or a numeric address (without brackets), not resolved. The host is at most 253
// characters of letters, digits, `.`, `-`, `_` (and `:` in an IPv6 address), the port is 1 to 65535.
struct host_port {
    std::string host;
    std::uint16_t port{};
    friend bool operator==(const host_port&, const host_port&) = default;
};

struct rest_url {
    bool tls{};
    host_port where;
    friend bool operator==(const rest_url&, const rest_url&) = default;
};

// One key under `members/`. What the member says of its own state and role is up to 30 s old and decides nothing (R1);
// a change of it is a reason to probe.
struct member_record {
    std::string name;                 // any UTF-8 without '/', made printable nowhere but in logs; at most 255 bytes
    std::optional<host_port> connect; // conn_url; default port 5432
    std::optional<host_port> proxy;   // proxy_url; default port 5432
    std::optional<rest_url> rest;     // api_url; default ports 80 and 443
    std::string state;
    std::string role;
    friend bool operator==(const member_record&, const member_record&) = default;
};

struct leader_record {
    std::string name;
    std::int64_t term{}; // mod_revision of the leader key
    friend bool operator==(const leader_record&, const leader_record&) = default;
};

// The `failover` key where it asks for a switchover: it names the leader that is to go. Patroni writes `{}` when it is
// done.
struct switchover_record {
    std::string leader;
    std::optional<std::chrono::sys_time<std::chrono::milliseconds>> scheduled_at; // none: at once
    std::int64_t revision{};                                                      // mod_revision of the key
    friend bool operator==(const switchover_record&, const switchover_record&) = default;
};

// A key or field that was not used, and why. `member` is the name where one is known. Both are printable: control
// characters and broken UTF-8 are escaped, long texts are cut.
struct refusal {
    std::string member;
    std::string reason; // "conn_url: port 70000 is not in 1 to 65535"
    friend bool operator==(const refusal&, const refusal&) = default;
};

struct cluster_view {
    std::int64_t revision{}; // of the store
    std::optional<leader_record> leader;
    std::map<std::string, member_record> members; // by name
    std::optional<std::uint64_t> optime;          // bytes of WAL, from `status` (or `optime/leader`)
    std::optional<switchover_record> switchover;
    std::vector<refusal> refusals;
    friend bool operator==(const cluster_view&, const cluster_view&) = default;
};

struct key_value {
    std::string value;
    std::int64_t mod_revision{};
    friend bool operator==(const key_value&, const key_value&) = default;
};

// `keys` are whole key names, all of which begin with `prefix`; `prefix` ends with a slash.
cluster_view parse_cluster(const std::map<std::string, key_value>& keys, std::string_view prefix,
                           std::int64_t revision);

// A text from outside made fit for a log line: control characters, quotes and broken UTF-8 escaped, cut at `limit`
// bytes.
std::string printable(std::string_view text, std::size_t limit = 80);

} // namespace pointsman::etcd_http
