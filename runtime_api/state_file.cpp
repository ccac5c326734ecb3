// Pure: see state_file.hpp.
#include "runtime_api/state_file.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <iterator>
#include <sstream>
#include <vector>

namespace pointsman::runtime_api {
namespace {

unsigned bits_of(const std::string& column) {
    unsigned bits{};
    std::from_chars(column.data(), column.data() + column.size(), bits);
    return bits;
}

// IMAINT, IDRAIN and RMAINT come from another server or from name resolution, and HAProxy works them out anew.
std::string own_admin_state(const std::string& column) {
    constexpr unsigned inherited = 0x02 | 0x10 | 0x20;
    return std::to_string(bits_of(column) & ~inherited);
}

// A check that the agent has suspended comes back enabled, for the agent may be gone by then (R3).
std::string resumed_check_state(const std::string& column) {
    constexpr unsigned configured = 2;
    constexpr unsigned enabled = 4;
    const unsigned bits = bits_of(column);
    return std::to_string(bits & configured ? bits | enabled : bits);
}

std::vector<std::string> words(const std::string& line) {
    std::istringstream text(line);
    return {std::istream_iterator<std::string>(text), std::istream_iterator<std::string>()};
}

} // namespace

state_rows restorable_rows(std::string_view dump) {
    std::istringstream lines{std::string(dump)};
    std::string version;
    std::string header;
    std::getline(lines, version);
    std::getline(lines, header);

    auto names = words(header);
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

    state_rows result{version + '\n' + header + '\n', {}};
    for (std::string line; std::getline(lines, line) && !line.empty();) {
        auto row = words(line);
        if (row[address] == "-" || row[host_name] == "-")
            continue;
        row[admin_state] = own_admin_state(row[admin_state]);
        row[check_state] = resumed_check_state(row[check_state]);
        // HAProxy fills this column with the `port` of `check`, and then warns of the file it restores it from: a slot
        // has no agent check. With `zero-warning` it would not even start.
        row[agent_port] = "0";
        std::string& rows = result.of_backend[row[backend]];
        for (std::size_t i = 0; i != row.size(); ++i)
            rows += (i == 0 ? "" : " ") + row[i];
        rows += '\n';
    }
    return result;
}

} // namespace pointsman::runtime_api
