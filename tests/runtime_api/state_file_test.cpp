#include "../support/scratch_dir.hpp"
#include "answers.hpp"
#include "printers.hpp"
#include "runtime_api/state_file.hpp"

#include <catch2/catch.hpp>

#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

using namespace pointsman::runtime_api;
using namespace pointsman::test;

namespace {

const std::vector<std::string> ours{"primary", "replicas"};

std::string slot_row(std::string_view backend, std::string_view address, std::string_view admin, std::string_view name,
                     std::string_view agent_port) {
    return "2 " + std::string(backend) + " 1 pg1 " + std::string(address) + " 2 " + std::string(admin) +
           " 100 100 7 15 3 3 6 0 0 0 " + std::string(name) + " 5432 - 0 8008 - - " + std::string(agent_port) + '\n';
}

std::string file_of(std::string_view rows) {
    return "1\n" + std::string(state_header) + '\n' + std::string(rows);
}

} // namespace

TEST_CASE("state file: a slot's row is kept, without the port of an agent check that it has not", "[state_file]") {
    CHECK(state_file(servers_state(slot_row("primary", "10.0.0.1", "4", "slot.invalid", "8008")), ours) ==
          file_of(slot_row("primary", "10.0.0.1", "4", "slot.invalid", "0")));
}

TEST_CASE("state file: other backends are none of our business", "[state_file]") {
    CHECK(state_file(servers_state(slot_row("web", "10.0.0.1", "4", "slot.invalid", "0") +
                                   slot_row("replicas", "10.0.0.2", "4", "slot.invalid", "0")),
                     ours) == file_of(slot_row("replicas", "10.0.0.2", "4", "slot.invalid", "0")));
}

TEST_CASE("state file: a slot whose address HAProxy would not restore is left out", "[state_file]") {
    CHECK(state_file(servers_state(slot_row("primary", "10.0.0.1", "4", "-", "0")), ours) == file_of(""));
    CHECK(state_file(servers_state(slot_row("primary", "-", "36", "slot.invalid", "0")), ours) == file_of(""));
}

TEST_CASE("state file: what a slot inherits is not its own state", "[state_file]") {
    CHECK(state_file(servers_state(slot_row("primary", "10.0.0.1", "55", "slot.invalid", "0")), ours) ==
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

    CHECK(state_file(header + with(r.state) + '\n', ours) == header + with(r.kept));
}

TEST_CASE("state file: columns are found by name", "[state_file]") {
    const std::string header = "1\n# srv_agent_port srv_fqdn srv_check_state srv_admin_state srv_addr be_name\n";
    CHECK(state_file(header + "8008 h 2 6 10.0.0.1 primary\n\n", ours) == header + "0 h 6 4 10.0.0.1 primary\n");
}

TEST_CASE("state file: writing replaces the file, readable for HAProxy whatever our umask", "[state_file]") {
    const scratch_dir dir;
    const auto path = dir.path("haproxy.state");
    write_text(path, "what was there before, and longer");
    const auto mask = ::umask(077);

    const auto written = write_state_file(path, "1\n");
    ::umask(mask);

    REQUIRE(written);
    CHECK(read_text(path) == "1\n");
    CHECK((std::filesystem::status(path).permissions() & std::filesystem::perms::mask) == std::filesystem::perms(0644));
    CHECK(std::distance(std::filesystem::directory_iterator(dir.path("")), {}) == 1);
}

TEST_CASE("state file: what a crash left behind does not stand in the way", "[state_file]") {
    const scratch_dir dir;
    write_text(dir.path("haproxy.state.new"), "half a fi");

    CHECK(write_state_file(dir.path("haproxy.state"), "1\n"));
    CHECK(read_text(dir.path("haproxy.state")) == "1\n");
}

TEST_CASE("state file: a failure names the file and the reason, and leaves the old file", "[state_file]") {
    const scratch_dir dir;
    const auto nowhere = dir.path("no/such/haproxy.state");

    const auto written = write_state_file(nowhere, "1\n");

    REQUIRE_FALSE(written);
    CHECK(written.error().kind == errc::unwritable);
    CHECK(written.error().detail == "state file " + nowhere + ": No such file or directory");

    // A directory of the file's name makes the rename fail, after the writing.
    std::filesystem::create_directories(dir.path("taken/inside"));
    CHECK_FALSE(write_state_file(dir.path("taken"), "1\n"));
    CHECK_FALSE(std::filesystem::exists(dir.path("taken.new")));
    CHECK(std::filesystem::exists(dir.path("taken/inside")));
}
