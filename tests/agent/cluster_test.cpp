#include "agent/cluster.hpp"

#include "world.hpp"

#include <catch2/catch.hpp>

using namespace pointsman;
using namespace pointsman::test;
using namespace pointsman::agent;
using namespace std::chrono_literals;

namespace {

const std::chrono::system_clock::time_point wall{};
const check master{"/master", config::pool_role::primary};
const check replica{"/replica", config::pool_role::replica};

etcd_http::cluster_view view_of(const std::vector<std::string>& names, std::optional<etcd_http::leader_record> leader) {
    etcd_http::cluster_view view;
    view.leader = std::move(leader);
    for (const auto& name : names) {
        etcd_http::member_record& record = view.members[name];
        record.name = name;
        record.state = "running";
        record.rest = etcd_http::rest_url{false, {"10.0.0.1", 8008}};
    }
    return view;
}

outcome yes_of(const std::string& role, time_point sent, time_point received) {
    return {.sent = sent,
            .received = received,
            .status = 200,
            .body = rest_body{.state = "running", .role = role, .wal = {}, .replication_state = {}, .timeline = {}},
            .postgres_open = {},
            .detail = {}};
}

} // namespace

TEST_CASE("cluster: a change of the leader key is told and dated", "[cluster]") {
    cluster c;
    const time_point begin{1h};
    CHECK(take_view(c, view_of({"n1"}, {{"n1", 5}}), begin, wall).leader);
    CHECK_FALSE(take_view(c, view_of({"n1"}, {{"n1", 5}}), begin + 1s, wall).leader);
    CHECK(c.leader_since == begin);

    CHECK(take_view(c, view_of({"n1"}, std::nullopt), begin + 2s, wall).leader);
    CHECK_FALSE(c.leader);
    CHECK(c.last_leader == "n1");

    // Back under the same name it is a new term all the same.
    CHECK(take_view(c, view_of({"n1"}, {{"n1", 9}}), begin + 3s, wall).leader);
    CHECK(c.leader_since == begin + 3s);
}

TEST_CASE("cluster: what a member says of itself is a reason to probe it, nothing more", "[cluster]") {
    cluster c;
    CHECK(take_view(c, view_of({"n1", "n2"}, {}), time_point{}, wall).probe == std::vector<std::string>{"n1", "n2"});
    CHECK(take_view(c, view_of({"n1", "n2"}, {}), time_point{}, wall).probe.empty());

    auto next = view_of({"n1", "n2"}, {});
    next.members["n2"].state = "stopped";
    CHECK(take_view(c, next, time_point{}, wall).probe == std::vector<std::string>{"n2"});
    CHECK(take_view(c, view_of({"n2"}, {}), time_point{}, wall).probe == std::vector<std::string>{"n1", "n2"});
}

TEST_CASE("cluster: the member that the leader key names is not forgotten (R3)", "[cluster]") {
    // Somebody has deleted the members' keys, and the leader's Patroni is dead: it does not put its own back.
    world w;
    w.member("n1").leader("n1").says("n1", silent()).gone("n1").passes(absent_hold);
    CHECK(forget_absent(w.c, w.now).empty());

    w.leader("n2");
    CHECK(forget_absent(w.c, w.now) == std::vector<std::string>{"n1"});
}

TEST_CASE("cluster: a member gone from etcd is known until its node is gone too (R5)", "[cluster]") {
    world w;
    w.member("n1").says("n1", writable()).reads("n1", standby()).gone("n1");
    w.passes(1h);
    CHECK(forget_absent(w.c, w.now).empty());

    SECTION("dead: at once") {
        w.says("n1", dead()).reads("n1", dead());
        CHECK(forget_absent(w.c, w.now) == std::vector<std::string>{"n1"});
    }
    SECTION("silent: after a while") {
        w.gone("n1").says("n1", silent()).reads("n1", silent());
        w.passes(9s);
        CHECK(forget_absent(w.c, w.now).empty());
        w.passes(1s);
        CHECK(forget_absent(w.c, w.now) == std::vector<std::string>{"n1"});
        CHECK(w.c.members.empty());
    }
    SECTION("back in time: not at all") {
        w.gone("n1").says("n1", silent()).reads("n1", silent()).passes(9s);
        take_view(w.c, view_of({"n1"}, {}), w.now, wall);
        w.passes(1h);
        CHECK(forget_absent(w.c, w.now).empty());
    }
}

TEST_CASE("cluster: a member that is dead but listed is known", "[cluster]") {
    world w;
    w.member("n1").says("n1", dead()).reads("n1", dead()).passes(1h);
    CHECK(forget_absent(w.c, w.now).empty());
}

TEST_CASE("cluster: an answer of the old address says nothing of the new one", "[cluster]") {
    world w;
    w.member("n1").says("n1", writable());
    agent::member& m = w.c.members.at("n1");
    REQUIRE(find_health(m, master));

    set_addresses(m, m.connect, m.proxy);
    CHECK(find_health(m, master));
    set_addresses(m, runtime_api::address::parse("10.0.9.1", 5432), m.proxy);
    CHECK_FALSE(find_health(m, master));
}

TEST_CASE("cluster: etcd is believed for two polls and a read", "[cluster]") {
    cluster c;
    CHECK_FALSE(readable(c, 5s, time_point{1h}));
    take_view(c, view_of({"n1"}, {}), time_point{1h}, wall);
    c.confirmed = time_point{1h};
    CHECK(readable(c, 5s, time_point{1h} + 13s));
    CHECK_FALSE(readable(c, 5s, time_point{1h} + 14s));
}

TEST_CASE("cluster: probes come at the configured interval at rest", "[cluster]") {
    world w;
    w.member("n1").member("n2").leader("n1").says("n1", writable()).says("n2", standby());
    w.reads("n1", standby(), 2).reads("n2", readable(), 2).passes(1h);
    CHECK(probe_delay(w.c, "n1", master, 1s, w.now) == 250ms); // the leader
    CHECK(probe_delay(w.c, "n2", master, 1s, w.now) == 1s);
    CHECK(probe_delay(w.c, "n1", replica, 1s, w.now) == 1s);
    CHECK(probe_delay(w.c, "n2", replica, 1s, w.now) == 1s);
}

TEST_CASE("cluster: probes come faster around a change, and never slower than configured", "[cluster]") {
    world w;
    w.member("n1").member("n2").leader("n1").passes(1h);
    w.says("n1", writable()).says("n2", standby());

    w.leader("n2");
    CHECK(probe_delay(w.c, "n2", master, 1s, w.now) == 8ms); // until it is writable
    CHECK(probe_delay(w.c, "n2", master, 5ms, w.now) == 5ms);
    w.c.members.at("n2").probes.at(master).latency = 30ms; // a REST API that has much to do
    CHECK(probe_delay(w.c, "n2", master, 1s, w.now) == 60ms);
    w.c.members.at("n2").probes.at(master).latency = 1s;
    CHECK(probe_delay(w.c, "n2", master, 1s, w.now) == 100ms);
    w.says("n2", dead());
    CHECK(probe_delay(w.c, "n2", master, 1s, w.now) == 200ms);
    w.says("n2", silent());
    CHECK(probe_delay(w.c, "n2", master, 1s, w.now) == 200ms);
    w.says("n2", writable());
    CHECK(probe_delay(w.c, "n2", master, 1s, w.now) == 250ms);
    CHECK(probe_delay(w.c, "n1", master, 1s, w.now) == 1s);
    w.no_leader();
    CHECK(probe_delay(w.c, "n2", master, 1s, w.now) == 200ms); // the one that the key named last
    CHECK(probe_delay(w.c, "n1", master, 1s, w.now) == 200ms);
}

TEST_CASE("cluster: a replica that is out is asked often enough to be back within one interval", "[cluster]") {
    world w;
    w.member("n1").member("n2").leader("n1").passes(1h);
    w.reads("n1", standby()).reads("n2", standby(), 2);
    CHECK(probe_delay(w.c, "n2", replica, 1s, w.now) == 400ms);
    CHECK(probe_delay(w.c, "n1", replica, 1s, w.now) == 1s); // the leader is none
    w.reads("n2", readable());
    CHECK(probe_delay(w.c, "n2", replica, 1s, w.now) == 400ms); // the second yes lets it in
    w.reads("n2", readable());
    CHECK(probe_delay(w.c, "n2", replica, 1s, w.now) == 1s);
    w.says("n1", {.status = 200, .role = "master", .timeline = 5}).reads("n2", {.status = 200, .timeline = 4});
    CHECK(probe_delay(w.c, "n2", replica, 1s, w.now) == 400ms); // its timeline lets it in
    w.reads("n2", {.status = 200, .timeline = 5});
    CHECK(probe_delay(w.c, "n2", replica, 1s, w.now) == 1s);
    w.no_leader();
    CHECK(probe_delay(w.c, "n2", replica, 1s, w.now) == 400ms);
}

TEST_CASE("cluster: a switchover that was asked for starts at once, or at its time, and is bounded", "[cluster]") {
    cluster c;
    const time_point begin{1h};
    const std::chrono::sys_seconds wall_begin{1000s};
    auto view = view_of({"n1", "n2"}, {{"n1", 5}});

    SECTION("at once") {
        view.switchover = etcd_http::switchover_record{.leader = "n1", .scheduled_at = {}, .revision = 7};
        take_view(c, view, begin, wall_begin);
        CHECK(is_leaving(c, "n1", begin));
        CHECK_FALSE(is_leaving(c, "n2", begin));
        SECTION("seen again it does not start anew") {
            take_view(c, view, begin + 14s, wall_begin + 14s);
            CHECK(is_leaving(c, "n1", begin + 14s));
            CHECK_FALSE(is_leaving(c, "n1", begin + 15s));
            CHECK(next_change(c, begin) == begin + 15s);
            CHECK_FALSE(next_change(c, begin + 15s));
        }
        SECTION("a new request does") {
            view.switchover->revision = 9;
            take_view(c, view, begin + 20s, wall_begin + 20s);
            CHECK(is_leaving(c, "n1", begin + 20s));
        }
        SECTION("a key that is cleared ends it") {
            view.switchover.reset();
            take_view(c, view, begin + 1s, wall_begin + 1s);
            CHECK_FALSE(is_leaving(c, "n1", begin + 1s));
        }
    }
    SECTION("scheduled") {
        view.switchover = etcd_http::switchover_record{.leader = "n1", .scheduled_at = wall_begin + 60s, .revision = 7};
        take_view(c, view, begin, wall_begin);
        CHECK(next_change(c, begin) == begin + 60s);
        CHECK(next_change(c, begin + 60s) == begin + 75s);
        CHECK_FALSE(is_leaving(c, "n1", begin + 59s));
        CHECK(is_leaving(c, "n1", begin + 60s));
        CHECK_FALSE(is_leaving(c, "n1", begin + 75s));
    }
    SECTION("scheduled for a time that no clock of nanoseconds holds") {
        using namespace std::chrono;
        SECTION("to come") {
            view.switchover = etcd_http::switchover_record{
                .leader = "n1", .scheduled_at = sys_days(9999y / 12 / 31) + 23h + 59min, .revision = 7};
            take_view(c, view, begin, wall_begin);
            CHECK_FALSE(is_leaving(c, "n1", begin));
            CHECK(next_change(c, begin) == begin + years(100));
        }
        SECTION("gone by") {
            view.switchover =
                etcd_http::switchover_record{.leader = "n1", .scheduled_at = sys_days(0y / 1 / 1), .revision = 7};
            take_view(c, view, begin, wall_begin);
            CHECK(is_leaving(c, "n1", begin));
            CHECK(next_change(c, begin) == begin + switchover_lasts);
        }
    }
}

TEST_CASE("cluster: the first yes that was asked for after the key was seen decides, though it says nothing new",
          "[cluster]") {
    world w;
    w.member("n1").leader("n1").says("n1", writable(), 3);
    const auto yes_sent = [&w](time_point sent) {
        return take_outcome(w.c, {master}, "n1", "/master", yes_of("master", sent, w.now)).decides;
    };
    const time_point asked_before = w.now;
    w.passes(10ms).leader("n1").passes(1ms);

    CHECK_FALSE(yes_sent(asked_before));
    CHECK(yes_sent(w.now));
    CHECK_FALSE(yes_sent(w.now));
}

TEST_CASE("cluster: a replica's second yes decides, though it says nothing new; its third does not (R3)", "[cluster]") {
    world w;
    w.member("n1").member("n2").leader("n1").reads("n2", standby());
    const auto yes = [&w] {
        w.passes(1ms);
        return take_outcome(w.c, {replica}, "n2", "/replica", yes_of("replica", w.now, w.now)).decides;
    };

    CHECK(yes());
    CHECK(yes());
    CHECK_FALSE(yes());
}
