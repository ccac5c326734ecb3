// Pure: see state_file.hpp.
#include "runtime_api/state_file.hpp"

#include "runtime_api/text.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace pointsman::runtime_api {
namespace {

// IMAINT, IDRAIN and RMAINT come from another server or from name resolution, and HAProxy works them out anew.
std::string own_admin_state(std::string_view column) {
    constexpr unsigned inherited = 0x02 | 0x10 | 0x20;
    return std::to_string(number<unsigned>(column).value_or(0) & ~inherited);
}

// A check that the agent has suspended comes back enabled, for the agent may be gone by then (R3).
std::string resumed_check_state(std::string_view column) {
    constexpr unsigned configured = 2;
    constexpr unsigned enabled = 4;
    const unsigned bits = number<unsigned>(column).value_or(0);
    return std::to_string(bits & configured ? bits | enabled : bits);
}

} // namespace

state_rows restorable_rows(std::string_view dump) {
    const auto version = take(dump, '\n');
    const auto header = take(dump, '\n');

    auto names = split(header, ' ');
    names.erase(names.begin()); // the `#`
    const auto column = [&names](std::string_view name) {
        return static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin());
    };
    const auto backend = column("be_name");
    const auto address = column("srv_addr");
    const auto host_name = column("srv_fqdn");
    const auto admin_state = column("srv_admin_state");
    const auto check_state = column("srv_check_state");
    const auto agent_port = column("srv_agent_port");

    state_rows result{std::string(version) + '\n' + std::string(header) + '\n', {}};
    while (!dump.empty() && dump.front() != '\n') {
        const auto row = split(take(dump, '\n'), ' ');
        const bool whole = row.size() == names.size() &&
                           std::max({backend, address, host_name, admin_state, check_state, agent_port}) < row.size();
        if (!whole || row[address] == "-" || row[host_name] == "-")
            continue;
        std::string& rows = result.of_backend[std::string(row[backend])];
        for (std::size_t i = 0; i != row.size(); ++i) {
            rows += i == 0 ? "" : " ";
            if (i == admin_state)
                rows += own_admin_state(row[i]);
            else if (i == check_state)
                rows += resumed_check_state(row[i]);
            // HAProxy fills this column with the `port` of `check`, and then warns of the file it restores it from: a
            // slot has no agent check. With `zero-warning` it would not even start.
            else if (i == agent_port)
                rows += '0';
            else
                rows += row[i];
        }
        rows += '\n';
    }
    return result;
}

} // namespace pointsman::runtime_api
