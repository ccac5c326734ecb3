#include "../support/scratch_dir.hpp"
#include "printers.hpp"
#include "runtime_api/replace_file.hpp"

#include <catch2/catch.hpp>

#include <sys/stat.h>

#include <filesystem>
#include <string>

using namespace pointsman::runtime_api;
using namespace pointsman::test;

TEST_CASE("replace_file: replaces the file, readable for HAProxy whatever our umask", "[replace_file]") {
    const scratch_dir dir;
    const auto path = dir.path("haproxy.state");
    write_text(path, "what was there before, and longer");
    const auto mask = ::umask(077);

    const auto written = replace_file(path, "1\n");
    ::umask(mask);

    REQUIRE(written);
    CHECK(read_text(path) == "1\n");
    CHECK((std::filesystem::status(path).permissions() & std::filesystem::perms::mask) == std::filesystem::perms(0644));
    CHECK(std::distance(std::filesystem::directory_iterator(dir.path("")), {}) == 1);
}

TEST_CASE("replace_file: what a crash left behind does not stand in the way", "[replace_file]") {
    const scratch_dir dir;
    write_text(dir.path("haproxy.state.new"), "half a fi");

    CHECK(replace_file(dir.path("haproxy.state"), "1\n"));
    CHECK(read_text(dir.path("haproxy.state")) == "1\n");
}

TEST_CASE("replace_file: a failure names the file and the reason, and leaves the old file", "[replace_file]") {
    const scratch_dir dir;
    const auto nowhere = dir.path("no/such/haproxy.state");

    const auto written = replace_file(nowhere, "1\n");

    REQUIRE_FALSE(written);
    CHECK(written.error().kind == errc::unwritable);
    CHECK(written.error().detail == nowhere + ": No such file or directory");

    // A directory of the file's name makes the rename fail, after the writing.
    std::filesystem::create_directories(dir.path("taken/inside"));
    CHECK_FALSE(replace_file(dir.path("taken"), "1\n"));
    CHECK_FALSE(std::filesystem::exists(dir.path("taken.new")));
    CHECK(std::filesystem::exists(dir.path("taken/inside")));
}
