#include "answers.hpp"
#include "printers.hpp"
#include "runtime_api/old_worker.hpp"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

using namespace pointsman::runtime_api;
using namespace pointsman::test;

namespace {

slot_id id(std::string_view backend, std::string_view server) {
    return slot_id::parse(backend, server).value();
}

// Recorded from HAProxy 2.6.12, shortened where dots stand.
const std::string processes = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n"
                              "5710            master          1 [failed: 0]   0d00h00m01s     2.6.12-1+deb12u4\n"
                              "# workers\n"
                              "5716            worker          0               0d00h00m01s     2.6.12-1+deb12u4\n"
                              "# old workers\n"
                              "5712            worker          1               0d00h00m01s     2.6.12-1+deb12u4\n"
                              "5699            worker          2               0d00h00m31s     2.6.12-1+deb12u4\n"
                              "# programs\n"
                              "\n";

const std::string sessions =
    "0x562acf4aa3b0: proto=tcpv4 src=127.0.0.1:45302 fe=primary be=primary srv=pg1 ts=00 epoch=0 age=1s calls=2 rate=2 "
    "cpu=0 lat=0 rq[f=848202h,i=0,an=00h,rx=59s,wx=,ax=] rp[f=80008000h,i=0,an=00h,rx=59s,wx=,ax=] scf=[8,0h,fd=14] "
    "scb=[8,1h,fd=16] exp=1s rc=0 c_exp=\n"
    "0x562acf5c6fd0: proto=tcpv4 src=127.0.0.1:45322 fe=primary be=primary srv=<none> ts=00 epoch=0 age=1s\n"
    "0x7fc538042d10: proto=sockpair src=unix:2 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s calls=2 rate=1\n"
    "\n";

std::string info(bool stopping) {
    return "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nPid: 5712\nStopping: " + std::to_string(stopping) + "\n\n";
}

const std::string state = servers_state("2 primary 1 pg1 127.0.99.2 2 4 1 1 1 1 0 2 6 0 0 0 - 5432 - 0 0 - - 0\n");

} // namespace

TEST_CASE("old worker: the master's list names those that a reload left behind", "[old_worker]") {
    const auto found = parse_old_workers(processes);
    REQUIRE(found);
    CHECK(*found == std::vector<std::int64_t>{5712, 5699});
    const auto none = parse_old_workers("#<PID> <type>\n1 master\n# workers\n2 worker\n# old workers\n# programs\n\n");
    REQUIRE(none);
    CHECK(none->empty());
}

TEST_CASE("old worker: a list that is cut, or none, is a failure and not an empty list", "[old_worker]") {
    for (std::size_t length = 0; length != processes.size(); ++length) {
        CAPTURE(length);
        CHECK_FALSE(parse_old_workers(processes.substr(0, length)));
    }
    CHECK_FALSE(parse_old_workers("Unknown command\n\n"));
    CHECK_FALSE(parse_old_workers("#<PID>\n# old workers\nx1 worker\n\n"));
    CHECK_FALSE(parse_old_workers("#<PID>\n# old workers\n-1 worker\n\n"));
}

TEST_CASE("old worker: only sessions that have a server can be cut from it", "[old_worker]") {
    const auto found = parse_sessions(sessions);
    REQUIRE(found);
    CHECK(*found == std::vector<open_session>{{"0x562acf4aa3b0", id("primary", "pg1")}});
}

TEST_CASE("old worker: a session's key that is none never reaches a command", "[old_worker]") {
    for (const std::string key : {"0x", "562acf4aa3b0", "0x12;quit", "0xABC", "0x11112222333344445", "0x1 2"}) {
        CAPTURE(key);
        CHECK_FALSE(parse_sessions(key + ": proto=tcpv4 be=primary srv=pg1 ts=00\n\n"));
    }
    CHECK_FALSE(parse_sessions("0x1: proto=tcpv4 be=primary srv=pg1"));
}

TEST_CASE("old worker: one answer brings its process, its slots and its sessions", "[old_worker]") {
    CHECK(render_look(5712) == "@!5712 show info;@!5712 show servers state;@!5712 show sess\n");

    const auto seen = parse_old_worker(info(true) + state + sessions);

    REQUIRE(seen);
    REQUIRE(*seen);
    CHECK((*seen)->pid == 5712);
    REQUIRE((*seen)->slots.size() == 1);
    CHECK((*seen)->slots.front().where == address::parse("127.0.99.2", 5432));
    CHECK((*seen)->sessions.size() == 1);
}

TEST_CASE("old worker: one that has ended, or that is in service still, is none", "[old_worker]") {
    const auto ended = parse_old_worker("Can't find the target PID matching the prefix '@!5712'\n");
    REQUIRE(ended);
    CHECK_FALSE(*ended);
    const auto in_service = parse_old_worker(info(false) + state + sessions);
    REQUIRE(in_service);
    CHECK_FALSE(*in_service);
}

TEST_CASE("old worker: an answer that is cut is a failure", "[old_worker]") {
    const auto whole = info(true) + state;
    for (std::size_t length = 0; length != whole.size(); ++length) {
        CAPTURE(length);
        CHECK_FALSE(parse_old_worker(whole.substr(0, length)));
    }
}

TEST_CASE("old worker: many sessions are cut in several lines, each session once", "[old_worker]") {
    std::vector<open_session> many(1000, {"0x562acf4aa3b0", id("primary", "pg1")});
    std::span<const open_session> left = many;
    std::size_t commands = 0;
    while (!left.empty()) {
        const auto before = left.size();
        const auto line = render_shutdown(7, left);
        CHECK(line.size() < 8192);
        CHECK(line.ends_with("@!7 shutdown session 0x562acf4aa3b0\n"));
        commands += before - left.size();
    }
    CHECK(commands == many.size());

    left = std::span<const open_session>(many).first(2);
    CHECK(render_shutdown(7, left) == "@!7 shutdown session 0x562acf4aa3b0;@!7 shutdown session 0x562acf4aa3b0\n");
}
