// Pure: what `check` makes of what etcd, the members' REST APIs and HAProxy told it: a finding for each thing that is
// not as it must be, with what it means for the traffic and the line that mends it.
#pragma once

#include "agent/health.hpp"
#include "config/settings.hpp"
#include "etcd_http/error.hpp"
#include "etcd_http/patroni.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace pointsman::agent {

enum class severity {
    well,    // a part that is as it must be
    note,    // worth knowing, nothing to mend
    warning, // goes well today
    wrong,
    silent, // wrong, and nothing can be said of what depends on it: a part that is needed did not answer
};

struct finding {
    severity how{};
    std::string about; // "backend primary"
    std::string what;
    std::string meaning{};
    std::string mend{}; // a line each

    friend bool operator==(const finding&, const finding&) = default;
};

// One etcd endpoint, asked for the keys of each cluster in turn.
struct endpoint_seen {
    std::string name;
    std::optional<etcd_http::failure> failed; // ended the asking
    struct keys {
        std::uint64_t store{}; // etcd's cluster id
        etcd_http::cluster_view view;
    };
    std::vector<keys> clusters{}; // in the order of the settings, as many as were read
};

// One member of a cluster, asked for each check path of its pools.
struct member_seen {
    std::string scope;
    std::string name;
    std::string where;   // "10.0.0.1:8008"
    std::string trouble; // why it could not be asked; empty: it was
    std::vector<std::pair<std::string, outcome>> answers{};
};

// The members of cluster `index` of the settings as the first endpoint that knows them has them; nullptr where none
// does.
const etcd_http::cluster_view* view_of(std::span<const endpoint_seen> endpoints, std::size_t index);

std::vector<finding> judge_etcd(const config::settings& settings, std::span<const endpoint_seen> endpoints);
std::vector<finding> judge_members(std::span<const member_seen> members);

// A line for each part that is well, and some for each finding, fit for a terminal; last the sum of it.
std::string render(std::span<const finding> findings);

// 0 nothing is wrong, 1 something is, 3 a part that is needed did not answer (design 5).
int exit_status(std::span<const finding> findings);

} // namespace pointsman::agent
