// Pure: the JSON body that Patroni's REST API sends with every GET of a health path (facts 2.2).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pointsman::agent {

// Every field is optional in the body, and a field of a wrong type is as good as absent. While PostgreSQL is down only
// state and role are there.
struct rest_body {
    std::string state; // "running", "stopping", "starting", "crashed", ...
    std::string role;  // "master" (up to Patroni 3), "primary", "replica", "standby_leader", "promoted", "demoted", ...
    std::optional<std::uint64_t> wal;             // bytes: `location` of a primary, `replayed_location` of a replica
    std::optional<std::string> replication_state; // from Patroni 3.0.4 on: "streaming", "in archive recovery"
    std::optional<std::uint64_t> timeline;

    friend bool operator==(const rest_body&, const rest_body&) = default;
};

// nullopt where the text is not a JSON object.
std::optional<rest_body> parse_rest_body(std::string_view text);

} // namespace pointsman::agent
