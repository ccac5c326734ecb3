#include "answers.hpp"
#include "runtime_api/state_file.hpp"

#include <catch2/catch.hpp>

#include <map>
#include <string>

using namespace pointsman::runtime_api;
using namespace pointsman::test;

namespace {

std::string slot_row(std::string_view backend, std::string_view address, std::string_view admin, std::string_view name,
                     std::string_view agent_port) {
    return "2 " + std::string(backend) + " 1 pg1 " + std::string(address) + " 2 " + std::string(admin) +
           " 100 100 7 15 3 3 6 0 0 0 " + std::string(name) + " 5432 - 0 8008 - - " + std::string(agent_port) + '\n';
}

// The file of all backends.
std::string file(std::string_view dump) {
    const auto rows = restorable_rows(dump);
    std::string text = rows.head;
    for (const auto& [backend, lines] : rows.of_backend)
        text += lines;
    return text;
}

std::string file_of(std::string_view rows) {
    return "1\n" + std::string(state_header) + '\n' + std::string(rows);
}

} // namespace

TEST_CASE("state file: a slot's row is kept, without the port of an agent check that it has not", "[state_file]") {
    CHECK(file(servers_state(slot_row("primary", "10.0.0.1", "4", "slot.invalid", "8008"))) ==
          file_of(slot_row("primary", "10.0.0.1", "4", "slot.invalid", "0")));
}

TEST_CASE("state file: every backend has its rows", "[state_file]") {
    const auto first = slot_row("primary", "10.0.0.1", "4", "slot.invalid", "0");
    const auto second = slot_row("replicas", "10.0.0.2", "4", "slot.invalid", "0");
    CHECK(restorable_rows(servers_state(first + second)).of_backend ==
          std::map<std::string, std::string>{{"primary", first}, {"replicas", second}});
}

TEST_CASE("state file: a slot whose address HAProxy would not restore is left out", "[state_file]") {
    CHECK(file(servers_state(slot_row("primary", "10.0.0.1", "4", "-", "0"))) == file_of(""));
    CHECK(file(servers_state(slot_row("primary", "-", "36", "slot.invalid", "0"))) == file_of(""));
}

TEST_CASE("state file: what a slot inherits is not its own state", "[state_file]") {
    CHECK(file(servers_state(slot_row("primary", "10.0.0.1", "55", "slot.invalid", "0"))) ==
          file_of(slot_row("primary", "10.0.0.1", "5", "slot.invalid", "0")));
}

TEST_CASE("state file: a check that the agent has suspended is enabled again", "[state_file]") {
    struct entry {
        std::string_view name, state, kept;
    };
    const auto r = GENERATE(values<entry>({
        {"enabled", "6", "6"},
        {"enabled, one under way", "7", "7"},
        {"in maint", "14", "14"},
        {"suspended", "2", "6"},
        {"suspended, in maint", "10", "14"},
        {"not configured", "0", "0"},
        {"not configured, in maint", "8", "8"},
    }));
    CAPTURE(r.name);
    const auto with = [](std::string_view state) { return "4 h 10.0.0.1 primary " + std::string(state) + " 0\n"; };
    const std::string header = "1\n# srv_admin_state srv_fqdn srv_addr be_name srv_check_state srv_agent_port\n";

    CHECK(file(header + with(r.state) + '\n') == header + with(r.kept));
}

TEST_CASE("state file: columns are found by name", "[state_file]") {
    const std::string header = "1\n# srv_agent_port srv_fqdn srv_check_state srv_admin_state srv_addr be_name\n";
    CHECK(file(header + "8008 h 2 6 10.0.0.1 primary\n\n") == header + "0 h 6 4 10.0.0.1 primary\n");
}

TEST_CASE("state file: a format without one of its columns gives no rows", "[state_file]") {
    const std::string header = "1\n# srv_agent_port srv_check_state srv_admin_state srv_addr be_name\n";
    CHECK(file(header + "8008 2 6 10.0.0.1 primary\n\n") == header);
}
