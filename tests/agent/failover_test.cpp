#include "agent/failover.hpp"

#include "world.hpp"

#include <catch2/catch.hpp>

using namespace pointsman;
using namespace pointsman::agent;
using namespace pointsman::test;
using namespace std::chrono_literals;

namespace {

const check master{"/master", config::pool_role::primary};

// n1 leads, and has been looked at.
struct scene {
    scene() {
        w.member("n1").member("n2").leader("n1").says("n1", writable()).says("n2", standby());
        timer.look(w.c, master);
        w.passes(1h);
    }

    scene& key(const std::string& name) {
        w.leader(name);
        timer.look(w.c, master);
        return *this;
    }
    scene& yes(const std::string& name) {
        w.says(name, writable());
        timer.look(w.c, master);
        return *this;
    }
    scene& passes(std::chrono::milliseconds time) {
        w.passes(time);
        return *this;
    }

    world w;
    failover_timer timer;
};

} // namespace

TEST_CASE("failover: each stage is counted from the leader key", "[failover]") {
    scene s;
    s.key("n2").passes(2ms);
    s.timer.went_to_maint("n1", s.w.now);
    s.passes(300ms).yes("n2").passes(3ms);
    s.timer.went_to_ready("n2", s.w.now);
    s.passes(1ms);

    const auto over = s.timer.seen_ready("n2", s.w.now);

    REQUIRE(over);
    CHECK(over->from == "n1");
    CHECK(own_part(*over) == 5ms);
    const std::string term = std::to_string(s.w.c.leader->term);
    CHECK(describe(*over) == "failover from=n1 to=n2 term=" + term +
                                 " old_cut_ms=2.0 probe_yes_ms=302.0 new_ready_ms=305.0 read_back_ms=306.0 own_ms=5.0");
    CHECK_FALSE(s.timer.seen_ready("n2", s.w.now));
}

TEST_CASE("failover: the old slot may be out before the key changes", "[failover]") {
    scene s;
    s.timer.went_to_maint("n1", s.w.now);
    s.passes(25s).key("n2").passes(100ms).yes("n2").passes(3ms);
    s.timer.went_to_ready("n2", s.w.now);

    const auto over = s.timer.seen_ready("n2", s.w.now);

    REQUIRE(over);
    CHECK(over->old_cut == over->key_seen - 25s);
    CHECK(own_part(*over) == 3ms);
}

TEST_CASE("failover: where the yes comes before the old slot is out, all of it is the agent's own", "[failover]") {
    scene s;
    s.key("n2").passes(1ms).yes("n2").passes(3ms);
    s.timer.went_to_maint("n1", s.w.now);
    s.passes(2ms);
    s.timer.went_to_ready("n2", s.w.now);

    const auto over = s.timer.seen_ready("n2", s.w.now);

    REQUIRE(over);
    CHECK(own_part(*over) == 6ms);
}

TEST_CASE("failover: a yes that was asked for before the key was seen does not count", "[failover]") {
    scene s;
    s.yes("n2").passes(10ms).key("n2").passes(5ms);
    s.yes("n2").passes(1ms);
    s.timer.went_to_ready("n2", s.w.now);

    const auto over = s.timer.seen_ready("n2", s.w.now);

    REQUIRE(over);
    CHECK(over->probe_yes == over->key_seen + 5ms);
}

TEST_CASE("failover: a key that goes and comes back to the same member is none", "[failover]") {
    scene s;
    s.w.no_leader();
    s.timer.look(s.w.c, master);
    s.key("n1").yes("n1");
    s.timer.went_to_ready("n1", s.w.now);
    CHECK_FALSE(s.timer.seen_ready("n1", s.w.now));
}

TEST_CASE("failover: a key that moves on begins anew", "[failover]") {
    scene s;
    s.key("n2").passes(1s).key("n1").passes(1s).yes("n1");
    s.timer.went_to_ready("n1", s.w.now);
    CHECK_FALSE(s.timer.seen_ready("n2", s.w.now));

    const auto over = s.timer.seen_ready("n1", s.w.now);

    REQUIRE(over);
    CHECK(over->from == "n2");
    CHECK(over->new_ready == over->key_seen + 1s);
}

TEST_CASE("failover: the first leader that is seen is none", "[failover]") {
    world w;
    w.member("n1").leader("n1").says("n1", writable());
    failover_timer timer;
    timer.look(w.c, master);
    timer.went_to_ready("n1", w.now);
    CHECK_FALSE(timer.seen_ready("n1", w.now));
}
