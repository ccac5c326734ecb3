#include "agent/health.hpp"

#include <catch2/catch.hpp>

using namespace pointsman;
using namespace pointsman::agent;
using namespace std::chrono_literals;
using config::pool_role;

namespace {

outcome http(unsigned status, std::string state, std::string role) {
    outcome o;
    o.status = status;
    o.body = rest_body{
        .state = std::move(state), .role = std::move(role), .wal = {}, .replication_state = {}, .timeline = {}};
    return o;
}

outcome nothing(std::optional<bool> postgres_open) {
    outcome o;
    o.postgres_open = postgres_open;
    o.detail = "10.0.0.1:8008: no answer in 1000 ms";
    return o;
}

outcome at(time_point when, outcome o) {
    o.sent = o.received = when;
    return o;
}

} // namespace

TEST_CASE("health: what an answer means to a primary pool", "[health]") {
    struct row {
        std::string name;
        outcome o;
        verdict expected;
    };
    const auto [name, o, expected] = GENERATE(values<row>({
        {"master", http(200, "running", "master"), {answer::yes, {}}},
        {"primary", http(200, "running", "primary"), {answer::yes, {}}},
        {"promoting", http(200, "running", "replica"), {answer::no, refusal::otherwise}},
        {"promoted is not yet writable", http(200, "running", "promoted"), {answer::no, refusal::otherwise}},
        {"stopping", http(200, "stopping", "master"), {answer::no, refusal::stopping}},
        {"crashed", http(200, "crashed", "master"), {answer::no, refusal::otherwise}},
        {"starting", http(200, "starting", "primary"), {answer::no, refusal::otherwise}},
        {"lock lost, PostgreSQL still a primary", http(503, "running", "master"), {answer::no, refusal::soft}},
        {"standby", http(503, "running", "replica"), {answer::no, refusal::otherwise}},
        {"standby leader", http(503, "running", "standby_leader"), {answer::no, refusal::otherwise}},
        {"an empty object", http(200, "", ""), {answer::no, refusal::soft}},
        {"its own query failed", http(200, "unknown", "master"), {answer::unknown, {}}},
        {"silent, PostgreSQL open", nothing(true), {answer::unknown, {}}},
        {"silent, PostgreSQL too", nothing(std::nullopt), {.what = answer::unknown, .gone = true}},
        {"silent, PostgreSQL refuses", nothing(false), {answer::no, refusal::dead}},
    }));
    CAPTURE(name);
    CHECK(judge(pool_role::primary, o) == expected);
}

TEST_CASE("health: what an answer means to a replica pool", "[health]") {
    outcome streaming = http(200, "running", "replica");
    streaming.body->replication_state = "streaming";
    outcome archive = http(200, "running", "replica");
    archive.body->replication_state = "in archive recovery";
    outcome bare;
    bare.status = 200;

    CHECK(judge(pool_role::replica, http(200, "running", "replica")) == verdict{answer::yes, {}});
    CHECK(judge(pool_role::replica, streaming) == verdict{answer::yes, {}});
    CHECK(judge(pool_role::replica, archive) == verdict{answer::no, refusal::soft});
    CHECK(judge(pool_role::replica, bare) == verdict{answer::yes, {}});
    CHECK(judge(pool_role::replica, http(503, "running", "replica")) == verdict{answer::no, refusal::soft});
    CHECK(judge(pool_role::replica, http(503, "stopping", "replica")) == verdict{answer::no, refusal::stopping});
    CHECK(judge(pool_role::replica, nothing(true)) == verdict{answer::unknown, {}});
    CHECK(judge(pool_role::replica, nothing(false)) == verdict{answer::no, refusal::dead});
}

TEST_CASE("health: a state of `unknown` beside a refusing PostgreSQL is a death", "[health]") {
    outcome o = http(200, "unknown", "master");
    o.postgres_open = false;
    CHECK(judge(pool_role::primary, o) == verdict{answer::no, refusal::dead});
    CHECK(judge(pool_role::replica, o) == verdict{answer::no, refusal::dead});
    o.postgres_open = true;
    CHECK(judge(pool_role::replica, o) == verdict{answer::unknown, {}});
}

TEST_CASE("health: answers in a row are counted, with the time of the first", "[health]") {
    const time_point begin{1h};
    health h;
    CHECK_FALSE(h.answered);

    step(h, pool_role::replica, at(begin, http(200, "running", "replica")));
    CHECK(h.in_a_row == 1);
    step(h, pool_role::replica, at(begin + 1s, http(200, "running", "replica")));
    CHECK(h.in_a_row == 2);
    CHECK(h.since == begin);
    CHECK(h.sent == begin + 1s);

    step(h, pool_role::replica, at(begin + 2s, nothing(true)));
    CHECK(h.in_a_row == 1);
    CHECK(h.since == begin + 2s);
}

TEST_CASE("health: a no that becomes a death goes on counting from the first no", "[health]") {
    const time_point begin{1h};
    health h;
    step(h, pool_role::primary, at(begin, http(503, "running", "master")));
    step(h, pool_role::primary, at(begin + 1s, nothing(false)));
    CHECK(h.last == verdict{answer::no, refusal::dead});
    CHECK(h.in_a_row == 2);
    CHECK(h.since == begin);
}

TEST_CASE("health: the last body is kept through silence", "[health]") {
    health h;
    step(h, pool_role::primary, http(200, "running", "master"));
    step(h, pool_role::primary, nothing(true));
    REQUIRE(h.body);
    CHECK(h.body->role == "master");
    CHECK_FALSE(h.status);
}

TEST_CASE("health: descriptions are fit for a log line", "[health]") {
    health h;
    CHECK(describe(h) == "not probed yet");
    step(h, pool_role::primary, http(503, "running", "rep\nlica"));
    CHECK(describe(h).find('\n') == std::string::npos);
    step(h, pool_role::primary, http(503, "starting", "replica"));
    CHECK(describe(h) == "503, state starting, role replica");
    step(h, pool_role::primary, nothing(false));
    CHECK(describe(h) == "10.0.0.1:8008: no answer in 1000 ms, and the PostgreSQL port refuses");
}

TEST_CASE("rest body: what Patroni 3 and 4 say", "[health]") {
    const auto primary = parse_rest_body(
        R"({"state": "running", "role": "master", "server_version": 150018, "xlog": {"location": 170256744}, "timeline": 21})");
    REQUIRE(primary);
    CHECK(*primary == rest_body{"running", "master", 170256744, std::nullopt, 21});

    const auto replica = parse_rest_body(
        R"({"state":"running","role":"replica","xlog":{"received_location":5,"replayed_location":3,"paused":false},"replication_state":"streaming"})");
    REQUIRE(replica);
    CHECK(*replica == rest_body{"running", "replica", 3, "streaming", std::nullopt});
}

TEST_CASE("rest body: a wrong type is as good as absent, anything but an object is nothing", "[health]") {
    const auto odd =
        parse_rest_body(R"({"state": 7, "role": null, "xlog": [1], "timeline": "x", "replication_state": {}})");
    REQUIRE(odd);
    CHECK(*odd == rest_body{});
    CHECK(*parse_rest_body(R"({"xlog": {"location": -5}})") == rest_body{});

    CHECK_FALSE(parse_rest_body(""));
    CHECK_FALSE(parse_rest_body("[]"));
    CHECK_FALSE(parse_rest_body("{\"state\": \"running\""));
    CHECK_FALSE(parse_rest_body("<html>"));
    CHECK_FALSE(parse_rest_body(std::string_view("{}\0<html>", 9)));
}

TEST_CASE("rest body: nesting without end is refused", "[health]") {
    CHECK_NOTHROW(parse_rest_body(std::string(200'000, '[')));
    CHECK_NOTHROW(parse_rest_body("{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}"));
}
