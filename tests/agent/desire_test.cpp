#include "world.hpp"

#include <catch2/catch.hpp>

using namespace pointsman;
using namespace pointsman::test;
using namespace std::chrono_literals;

namespace {

// Three members with their slots; n1 leads, writes go to it, n2 and n3 are read.
world steady() {
    world w;
    w.member("n1").member("n2").member("n3").leader("n1").passes(1s);
    w.says("n1", writable()).says("n2", standby()).says("n3", standby());
    w.reads("n1", standby(), 2).reads("n2", readable(), 2).reads("n3", readable(), 2);
    w.slots("primary", "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 maint 10.0.0.3:5432, pg4 maint");
    w.slots("replicas", "pg1 maint 10.0.0.1:5432, pg2 ready 10.0.0.2:5432, pg3 ready 10.0.0.3:5432, pg4 maint");
    return w;
}

} // namespace

// --- primary pools

TEST_CASE("desire: a cluster at rest is left alone", "[desire]") {
    const world w = steady();
    CHECK(w.desired("primary") == "n1=ready n2=maint n3=maint pg4=maint");
    CHECK(w.desired("replicas") == "n1=maint n2=ready n3=ready pg4=maint");
    CHECK(w.plan("primary").empty());
    CHECK(w.plan("replicas").empty());
}

TEST_CASE("desire: R2 the leader key naming another member takes a slot out at once and cuts it", "[desire]") {
    world w = steady();
    w.leader("n2");
    CHECK(w.desired("primary") == "n1=maint+cut n2=maint n3=maint pg4=maint");
    CHECK(w.plan("primary") == "set server primary/pg1 state maint; shutdown sessions server primary/pg1");
}

TEST_CASE("desire: R2 the new leader comes in with a yes that was asked for after the key was seen", "[desire]") {
    world w = steady();
    w.says("n2", writable()).passes(1ms).leader("n2");
    CHECK(w.desired("primary") == "n1=maint+cut n2=maint n3=maint pg4=maint");

    w.says("n2", writable());
    CHECK(w.desired("primary") == "n1=maint+cut n2=ready n3=maint pg4=maint");
}

TEST_CASE("desire: R2 the old slot goes before the new one comes", "[desire]") {
    world w = steady();
    w.leader("n2").says("n2", writable());
    CHECK(w.plan("primary") == "set server primary/pg1 state maint; shutdown sessions server primary/pg1; "
                               "set server primary/pg2 state ready; set server primary/pg2 health up");
}

TEST_CASE("desire: R2 a 200 alone does not make a writer", "[desire]") {
    struct row {
        std::string name;
        node_says answer;
    };
    const auto [name, answer] = GENERATE(values<row>({
        {"still promoting", {.status = 200, .role = "replica"}},
        {"PostgreSQL is being stopped", {.status = 200, .state = "stopping", .role = "master"}},
        {"PostgreSQL has crashed", {.status = 200, .state = "crashed", .role = "primary"}},
        {"no state in the body", {.status = 200, .state = "", .role = ""}},
        {"lost the lock", {.status = 503, .role = "master"}},
        {"silent", silent()},
        {"dead", dead()},
    }));
    CAPTURE(name);
    world w = steady();
    w.leader("n2").says("n2", answer, 3);
    CHECK(w.desired("primary") == "n1=maint+cut n2=maint n3=maint pg4=maint");
}

TEST_CASE("desire: R2 both names of the role are a primary", "[desire]") {
    const auto role = GENERATE(as<std::string>(), "master", "primary");
    world w = steady();
    w.leader("n2").says("n2", {.status = 200, .role = role});
    CHECK(w.desired("primary") == "n1=maint+cut n2=ready n3=maint pg4=maint");
}

TEST_CASE("desire: R2 a leader key that is gone changes nothing while the node says yes", "[desire]") {
    world w = steady();
    w.no_leader().says("n1", writable());
    CHECK(w.plan("primary").empty());
}

TEST_CASE("desire: R2 nobody comes in while the leader key is gone", "[desire]") {
    world w = steady();
    w.slots("primary", "pg1 maint 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 maint 10.0.0.3:5432");
    w.no_leader().passes(1ms).says("n1", writable());
    CHECK(w.desired("primary") == "n1=maint n2=maint n3=maint");
}

// HAProxy's own check is suspended meanwhile: it would cut the sessions of the member that is held.
const std::string held = "n1=ready+unchecked n2=maint n3=maint pg4=maint";

TEST_CASE("desire: R2 the noes of a running primary count for 5 s, or 1 s where another says yes", "[desire]") {
    world w = steady();
    const node_says lost_the_lock{.status = 503, .role = "master"};
    w.says("n1", lost_the_lock);
    CHECK(w.desired("primary") == held);
    w.passes(200ms).says("n1", lost_the_lock);
    CHECK(w.desired("primary") == held);

    SECTION("nobody else claims to be the writer") {
        w.passes(4700ms).says("n1", lost_the_lock);
        CHECK(w.desired("primary") == held);
        w.passes(100ms).says("n1", lost_the_lock);
    }
    SECTION("another does, though the key does not name it") {
        w.says("n2", writable()).passes(700ms).says("n1", lost_the_lock);
        CHECK(w.desired("primary") == held);
        w.passes(100ms).says("n1", lost_the_lock);
    }
    CHECK(w.desired("primary") == "n1=maint+cut n2=maint n3=maint pg4=maint");
}

TEST_CASE("desire: R2 the first no of a running primary is none, however late the second comes", "[desire]") {
    world w = steady();
    w.says("n1", {.status = 503, .role = "master"}).passes(30s);
    CHECK(w.desired("primary") == held);
}

TEST_CASE("desire: R2 a single no between two yeses is forgotten", "[desire]") {
    world w = steady();
    w.says("n1", {.status = 503, .role = "master"}).passes(900ms).says("n1", writable());
    w.passes(900ms).says("n1", {.status = 503, .role = "master"});
    CHECK(w.desired("primary") == held);
}

TEST_CASE("desire: R2 a body that says otherwise is out at once", "[desire]") {
    const auto answer = GENERATE(values<node_says>({
        {.status = 503, .role = "replica"},
        {.status = 200, .state = "crashed", .role = "master"},
        {.status = 503, .state = "running", .role = "demoted"},
    }));
    world w = steady();
    w.says("n1", answer);
    CHECK(w.desired("primary") == "n1=maint+cut n2=maint n3=maint pg4=maint");
}

TEST_CASE("desire: a primary that is being stopped is drained, and back when it is not", "[desire]") {
    world w = steady();
    w.says("n1", {.status = 200, .state = "stopping", .role = "master"});
    CHECK(w.desired("primary") == "n1=drain+unchecked n2=maint n3=maint pg4=maint");
    w.settle("primary").says("n1", writable());
    CHECK(w.desired("primary") == "n1=ready n2=maint n3=maint pg4=maint");
}

TEST_CASE("desire: R12 a switchover that was asked for drains the primary, and puts it back when nothing comes of it",
          "[desire]") {
    world w = steady();
    w.asked_to_leave("n1");
    CHECK(w.desired("primary") == "n1=drain+unchecked n2=maint n3=maint pg4=maint");
    CHECK(w.plan("primary") == "set server primary/pg1 state drain; set server primary/pg1 health up; "
                               "disable health primary/pg1");
    w.settle("primary");
    SECTION("also where it has no session left") {
        w.sessions("primary", "pg1", 0);
        CHECK(w.plan("primary").empty());
        w.passes(15s);
        CHECK(w.desired("primary") == "n1=ready n2=maint n3=maint pg4=maint");
    }
    SECTION("from drain") {
        w.passes(15s);
        CHECK(w.desired("primary") == "n1=ready n2=maint n3=maint pg4=maint");
    }
    SECTION("and lets the new one in") {
        w.leader("n2").says("n2", writable());
        CHECK(w.desired("primary") == "n1=maint+cut n2=ready n3=maint pg4=maint");
    }
}

TEST_CASE("desire: R3 death needs two signals", "[desire]") {
    world w = steady();
    SECTION("REST silent, PostgreSQL refuses: out and cut at once") {
        w.says("n1", dead());
        CHECK(w.desired("primary") == "n1=maint+cut n2=maint n3=maint pg4=maint");
    }
    SECTION("REST silent, PostgreSQL reachable: kept, HAProxy's own check suspended") {
        w.says("n1", silent());
        CHECK(w.desired("primary") == "n1=ready+unchecked n2=maint n3=maint pg4=maint");
        CHECK(w.plan("primary") == "set server primary/pg1 health up; disable health primary/pg1");
    }
    SECTION("REST silent, PostgreSQL too: drained, so that new connections wait and none is cut") {
        w.says("n1", gone());
        CHECK(w.desired("primary") == "n1=drain+unchecked n2=maint n3=maint pg4=maint");
        SECTION("and back with the next yes") {
            w.settle("primary").says("n1", writable());
            CHECK(w.desired("primary") == "n1=ready n2=maint n3=maint pg4=maint");
        }
        SECTION("cut with the leader key") {
            w.settle("primary").leader("n2");
            CHECK(w.desired("primary") == "n1=maint+cut n2=maint n3=maint pg4=maint");
        }
        SECTION("no reads fall back to it") {
            w.settings.pools[1].fallback_primary = true;
            w.reads("n2", dead()).reads("n3", dead());
            CHECK(w.desired("replicas") == "n1=maint n2=maint+cut n3=maint+cut pg4=maint");
        }
    }
}

TEST_CASE("desire: R3 an unknown answer is kept for the grace time, then drained and not cut", "[desire]") {
    world w = steady();
    w.says("n1", silent()).passes(29s).says("n1", silent());
    CHECK(w.desired("primary") == "n1=ready+unchecked n2=maint n3=maint pg4=maint");
    w.passes(2s).says("n1", silent());
    CHECK(w.desired("primary") == "n1=drain+unchecked n2=maint n3=maint pg4=maint");
}

TEST_CASE("desire: R12 the drain of a silent leader is bounded too", "[desire]") {
    world w = steady();
    w.says("n1", writable()).asked_to_leave("n1").says("n1", silent());
    CHECK(w.desired("primary") == "n1=drain+unchecked n2=maint n3=maint pg4=maint");
    w.settle("primary").passes(15s).says("n1", silent());
    CHECK(w.desired("primary") == "n1=ready+unchecked n2=maint n3=maint pg4=maint");
    SECTION("but not while PostgreSQL is being stopped") {
        w.says("n1", {.status = 200, .state = "stopping", .role = "master"}).says("n1", silent());
        CHECK(w.desired("primary") == "n1=drain+unchecked n2=maint n3=maint pg4=maint");
    }
}

TEST_CASE("desire: R3 the check is resumed with the next answer", "[desire]") {
    world w = steady();
    w.says("n1", silent()).settle("primary").says("n1", writable());
    CHECK(w.plan("primary") == "set server primary/pg1 health up; enable health primary/pg1");
}

TEST_CASE("desire: R3 an unknown answer is not kept once the leader key is gone", "[desire]") {
    world w = steady();
    w.says("n1", silent()).no_leader();
    CHECK(w.desired("primary") == "n1=drain+unchecked n2=maint n3=maint pg4=maint");
}

TEST_CASE("desire: R3 a reachable PostgreSQL keeps no slot that the leader key has left", "[desire]") {
    world w = steady();
    w.says("n1", silent()).leader("n2");
    CHECK(w.desired("primary") == "n1=maint+cut n2=maint n3=maint pg4=maint");
}

TEST_CASE("desire: R2 leaders go from A to B and back to A", "[desire]") {
    world w = steady();
    w.leader("n2").says("n2", writable()).settle("primary");
    CHECK(w.desired("primary") == "n1=maint n2=ready n3=maint pg4=maint");
    w.passes(1s).leader("n1").says("n1", writable()).settle("primary");
    CHECK(w.desired("primary") == "n1=ready n2=maint n3=maint pg4=maint");
}

TEST_CASE("desire: R2 of two slots in service the leader's stays", "[desire]") {
    world w = steady();
    w.slots("primary", "pg1 ready 10.0.0.1:5432, pg2 ready 10.0.0.2:5432, pg3 maint 10.0.0.3:5432");
    CHECK(w.desired("primary") == "n1=ready n2=maint+cut n3=maint");
    SECTION("also while the key is gone and both say yes") {
        w.no_leader().says("n1", writable()).says("n2", writable());
        CHECK(w.desired("primary") == "n1=ready n2=maint+cut n3=maint");
    }
}

TEST_CASE("desire: R4 without etcd the writer stays while it says yes", "[desire]") {
    world w = steady();
    w.etcd_away().says("n1", writable());
    CHECK(w.plan("primary").empty());
}

TEST_CASE("desire: R4 without etcd the only member that says yes becomes the writer", "[desire]") {
    world w = steady();
    w.etcd_away().says("n1", standby()).settle("primary");
    CHECK(w.desired("primary") == "n1=maint n2=maint n3=maint pg4=maint");
    w.says("n2", writable());
    CHECK(w.desired("primary") == "n1=maint n2=ready n3=maint pg4=maint");
    SECTION("of two that say yes none comes in") {
        w.says("n3", writable());
        CHECK(w.desired("primary") == "n1=maint n2=maint n3=maint pg4=maint");
    }
    SECTION("and the one already in stays when another says yes") {
        w.settle("primary").says("n3", writable());
        CHECK(w.desired("primary") == "n1=maint n2=ready n3=maint pg4=maint");
    }
}

TEST_CASE("desire: R15 what was not probed yet stays as it was found", "[desire]") {
    world w;
    w.member("n1").member("n2").leader("n1");
    w.slots("primary", "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
    w.slots("replicas", "pg1 maint 10.0.0.1:5432, pg2 ready 10.0.0.2:5432");
    CHECK(w.plan("primary").empty());
    CHECK(w.plan("replicas").empty());
}

TEST_CASE("desire: R15 a slot found on the old leader goes at once, probed or not", "[desire]") {
    world w;
    w.member("n1").member("n2").leader("n2");
    w.slots("primary", "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
    CHECK(w.desired("primary") == "n1=maint+cut n2=maint");
}

TEST_CASE("desire: R6 a slot in service that is no member's goes when the leader has another", "[desire]") {
    world w = steady();
    w.slots("primary", "pg1 maint 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 ready 10.0.0.99:5432");
    CHECK(w.desired("primary") == "n1=ready n2=maint pg3=maint+cut");
    // Break before make: two stages, the second planned after the first was seen.
    CHECK(w.plan("primary") == "set server primary/pg3 state maint; shutdown sessions server primary/pg3; "
                               "set server primary/pg1 state ready; set server primary/pg1 health up");
}

TEST_CASE("desire: R5 a slot in service that is no member's stays while no leader is known", "[desire]") {
    world w = steady();
    w.slots("primary", "pg1 ready 10.0.0.99:5432, pg2 maint 10.0.0.2:5432, pg3 maint 10.0.0.3:5432, pg4 maint");
    w.no_leader();
    CHECK(w.desired("primary") == "pg1=ready n2=maint n3=maint n1=maint");
}

TEST_CASE("desire: R6 a slot that has another one's address loses it", "[desire]") {
    world w = steady();
    w.slots("primary", "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 ready 10.0.0.1:5432, pg4 maint");
    CHECK(w.plan("primary") == "set server primary/pg3 state maint; set server primary/pg3 addr 127.0.0.1 port 1; "
                               "set server primary/pg4 addr 10.0.0.3 port 5432");
}

// --- replica pools

TEST_CASE("desire: R6 a slot with another one's address is drained first where its sessions may go on (R10)",
          "[desire]") {
    world w = steady();
    w.slots("replicas", "pg1 maint 10.0.0.1:5432, pg2 ready 10.0.0.2:5432, pg3 ready 10.0.0.3:5432, pg4 ready "
                        "10.0.0.2:5432");
    CHECK(w.plan("replicas") == "set server replicas/pg4 state drain; set server replicas/pg4 health up; "
                                "disable health replicas/pg4");
    w.settle("replicas").sessions("replicas", "pg4", 1);
    CHECK(w.plan("replicas").empty());
    w.sessions("replicas", "pg4", 0);
    CHECK(w.plan("replicas")
              .starts_with("set server replicas/pg4 state maint; "
                           "set server replicas/pg4 addr 127.0.0.1 port 1"));
}

TEST_CASE("desire: R3 a replica comes in after two yeses in a row", "[desire]") {
    world w = steady();
    w.member("n4").reads("n4", readable());
    CHECK(w.desired("replicas") == "n1=maint n2=ready n3=ready n4=maint");
    w.reads("n4", standby()).reads("n4", readable());
    CHECK(w.desired("replicas") == "n1=maint n2=ready n3=ready n4=maint");
    w.reads("n4", readable());
    CHECK(w.desired("replicas") == "n1=maint n2=ready n3=ready n4=ready");
    CHECK(w.plan("replicas") == "set server replicas/pg4 addr 10.0.0.4 port 5432; set server replicas/pg4 state ready; "
                                "set server replicas/pg4 health up");
}

TEST_CASE("desire: R3 a replica that says it does not stream stays out", "[desire]") {
    world w = steady();
    w.reads("n2", {.status = 200, .replication_state = "in archive recovery"});
    CHECK(w.desired("replicas") == "n1=maint n2=drain+unchecked n3=ready pg4=maint");
    w.settle("replicas").reads("n2", {.status = 200, .replication_state = "streaming"}, 2);
    CHECK(w.desired("replicas") == "n1=maint n2=ready n3=ready pg4=maint");
}

TEST_CASE("desire: R10 a replica that says no is drained, and goes to maint without sessions", "[desire]") {
    world w = steady();
    w.reads("n2", standby());
    CHECK(w.desired("replicas") == "n1=maint n2=drain+unchecked n3=ready pg4=maint");
    w.settle("replicas").sessions("replicas", "pg2", 3);
    CHECK(w.plan("replicas").empty());
    w.sessions("replicas", "pg2", 0);
    CHECK(w.desired("replicas") == "n1=maint n2=maint n3=ready pg4=maint");
}

TEST_CASE("desire: R10 a replica that is dead is cut", "[desire]") {
    world w = steady();
    w.reads("n2", dead());
    CHECK(w.desired("replicas") == "n1=maint n2=maint+cut n3=ready pg4=maint");
}

TEST_CASE("desire: R3 a replica that has yet to be rewound waits, for a while", "[desire]") {
    world w = steady();
    w.says("n1", {.status = 200, .role = "master", .timeline = 5});
    w.reads("n2", dead()).settle("replicas");
    w.reads("n2", {.status = 200, .timeline = 4}, 2);
    CHECK(w.desired("replicas") == "n1=maint n2=maint n3=ready pg4=maint");
    SECTION("until it follows the leader") {
        w.reads("n2", {.status = 200, .timeline = 5});
        CHECK(w.desired("replicas") == "n1=maint n2=ready n3=ready pg4=maint");
    }
    SECTION("or for ten seconds: it may replay late") {
        w.passes(10s);
        CHECK(w.desired("replicas") == "n1=maint n2=ready n3=ready pg4=maint");
    }
    SECTION("one that is in service stays") {
        w.reads("n3", {.status = 200, .timeline = 4});
        CHECK(w.desired("replicas") == "n1=maint n2=maint n3=ready pg4=maint");
    }
}

TEST_CASE("desire: R3 a silent replica stands back for those that answer", "[desire]") {
    world w = steady();
    w.reads("n2", silent());
    CHECK(w.desired("replicas") == "n1=maint n2=drain+unchecked n3=ready pg4=maint");
    SECTION("when none answers all are kept for the grace time") {
        w.reads("n3", silent());
        CHECK(w.desired("replicas") == "n1=maint n2=ready+unchecked n3=ready+unchecked pg4=maint");
        w.passes(31s);
        CHECK(w.desired("replicas") == "n1=maint n2=drain+unchecked n3=drain+unchecked pg4=maint");
    }
    SECTION("but not those whose PostgreSQL does not answer either") {
        w.reads("n3", gone());
        CHECK(w.desired("replicas") == "n1=maint n2=ready+unchecked n3=drain+unchecked pg4=maint");
    }
}

TEST_CASE("desire: R5 a member gone from etcd keeps its slot while its node says yes", "[desire]") {
    world w = steady();
    w.gone("n1").gone("n2").gone("n3").no_leader();
    CHECK(w.plan("primary").empty());
    CHECK(w.plan("replicas").empty());
}

TEST_CASE("R2: two say yes and etcd cannot be read: the one already in stays", "[desire]") {
    // The agent was cut off from n1 and from etcd while n2 was promoted (R4); now n1, stale, is heard again.
    world w;
    w.member("n1").member("n2").leader("n1").etcd_away().says("n1", writable()).says("n2", writable());
    w.slots("primary", "pg1 drain 10.0.0.1:5432, pg2 ready 10.0.0.2:5432");
    CHECK(w.desired("primary") == "n1=drain+unchecked n2=ready");
}

TEST_CASE("R2: a slot of nobody's that is the writer's goes before another one is, whatever etcd says", "[desire]") {
    // The old leader was forgotten while etcd was away; without etcd the only member that says yes is the writer (R4).
    world w;
    w.member("n2").leader("n1").etcd_away().says("n2", writable());
    w.slots("primary", "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
    CHECK(w.plan("primary") == "set server primary/pg1 state maint; shutdown sessions server primary/pg1; "
                               "set server primary/pg2 state ready; set server primary/pg2 health up");

    // Until there is one it stays.
    w.says("n2", standby());
    CHECK(w.plan("primary").empty());
}

TEST_CASE("desire: a replica slot in service that is no member's is drained after a while", "[desire]") {
    world w = steady();
    w.slots("replicas",
            "pg1 maint 10.0.0.1:5432, pg2 ready 10.0.0.2:5432, pg3 ready 10.0.0.3:5432, pg4 ready 10.0.0.9:5432");
    w.orphan_for("replicas", "pg4", 9s);
    CHECK(w.desired("replicas") == "n1=maint n2=ready n3=ready pg4=ready");
    w.orphan_for("replicas", "pg4", 10s);
    CHECK(w.desired("replicas") == "n1=maint n2=ready n3=ready pg4=drain+unchecked");
}

TEST_CASE("desire: a slot that is no member's goes also where it is the one that the leader lacks", "[desire]") {
    world w = steady();
    w.slots("replicas", "pg1 ready 10.0.0.9:5432, pg2 ready 10.0.0.2:5432, pg3 ready 10.0.0.3:5432");
    w.orphan_for("replicas", "pg1", 10s);
    CHECK(w.desired("replicas") == "pg1=drain+unchecked n2=ready n3=ready");

    w.slots("primary", "pg1 ready 10.0.0.9:5432");
    CHECK(w.desired("primary") == "pg1=maint+cut");
}

TEST_CASE("desire: a slot of nobody's stays while the leader's address is not known (R5)", "[desire]") {
    world w = steady();
    w.c.members.at("n1").connect.reset(); // a name that does not resolve yet: the slot may be its own
    w.slots("primary", "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 maint 10.0.0.3:5432");
    CHECK(w.plan("primary").empty());
}

TEST_CASE("desire: reads fall back to the primary while no replica is fit", "[desire]") {
    world w = steady();
    w.settings.pools[1].fallback_primary = true;
    CHECK(w.plan("replicas").empty());

    w.reads("n2", standby()).reads("n3", dead());
    CHECK(w.desired("replicas") == "n1=ready n2=drain+unchecked n3=maint+cut pg4=maint");

    SECTION("and leave it, not cut, when one is again") {
        w.settle("replicas").reads("n2", readable(), 2);
        CHECK(w.desired("replicas") == "n1=drain+unchecked n2=ready n3=maint pg4=maint");
    }
    SECTION("but not to a primary that is not writable") {
        w.says("n1", {.status = 503, .role = "replica"});
        CHECK(w.desired("replicas") == "n1=maint n2=drain+unchecked n3=maint+cut pg4=maint");
    }
    SECTION("and stay with one whose REST API is silent, not with one that is gone") {
        w.settle("replicas").says("n1", silent()).reads("n1", silent());
        CHECK(w.desired("replicas") == "n1=ready+unchecked n2=drain+unchecked n3=maint pg4=maint");
        w.says("n1", gone()).reads("n1", gone());
        CHECK(w.desired("replicas") == "n1=drain+unchecked n2=drain+unchecked n3=maint pg4=maint");
    }
    SECTION("and follow the leader") {
        w.settle("replicas").leader("n2").says("n2", writable()).says("n1", standby()).reads("n1", dead());
        CHECK(w.desired("replicas") == "n1=maint+cut n2=ready n3=maint pg4=maint");
    }
}

TEST_CASE("desire: without `fallback` nobody is read while no replica is fit", "[desire]") {
    world w = steady();
    w.reads("n2", dead()).reads("n3", dead());
    CHECK(w.desired("replicas") == "n1=maint n2=maint+cut n3=maint+cut pg4=maint");
}

// --- addresses

TEST_CASE("desire: R6 a member that moves is re-addressed in maint and not given before it is probed there",
          "[desire]") {
    world w = steady();
    auto& n2 = w.c.members.at("n2");
    agent::set_addresses(n2, runtime_api::address::parse("10.0.9.2", 5432), {});
    w.slots("replicas", "pg1 maint 10.0.0.1:5432, pg2 ready 10.0.0.2:5432, pg3 ready 10.0.0.3:5432, pg4 maint");
    // The world places without memory: the member gets the free slot, its old one is nobody's.
    CHECK(w.desired("replicas") == "n1=maint pg2=ready n3=ready n2=maint");
    w.reads("n2", readable(), 2);
    CHECK(w.desired("replicas") == "n1=maint pg2=ready n3=ready n2=ready");
}

// --- weights

TEST_CASE("desire: the weight follows the lag", "[desire]") {
    world w = steady();
    w.settings.pools[1].weight = config::weight_settings{.base = 100, .lag = config::lag_settings{1 << 20, 64 << 20}};
    const std::uint64_t end = 1000 << 20;
    w.says("n1", {.status = 200, .role = "master", .wal = end});
    w.reads("n2", {.status = 200, .wal = end - 100}).reads("n3", {.status = 200, .wal = end - (100 << 20)});
    CHECK(w.desired("replicas") == "n1=maint n2=ready+w100 n3=ready+w1 pg4=maint");
    SECTION("an unknown lag leaves the weight as it is") {
        w.reads("n3", {.status = 200, .wal = std::nullopt});
        CHECK(w.desired("replicas") == "n1=maint n2=ready+w100 n3=ready pg4=maint");
    }
}

TEST_CASE("desire: a slot in service with the weight 0 takes no connection: it gets the weight it was declared with",
          "[desire]") {
    world w = steady();
    w.slots("primary", "pg1 ready 10.0.0.1:5432 w0, pg2 maint 10.0.0.2:5432 w0, pg3 maint 10.0.0.3:5432, pg4 maint");
    CHECK(w.desired("primary") == "n1=ready+w1 n2=maint n3=maint pg4=maint");
    CHECK(w.plan("primary") == "set server primary/pg1 weight 1");
    w.slots("primary", "pg1 ready 10.0.0.1:5432 w7, pg2 maint 10.0.0.2:5432, pg3 maint 10.0.0.3:5432, pg4 maint");
    CHECK(w.plan("primary").empty()); // somebody's choice, and it routes
}

TEST_CASE("weigh: from the full weight down to the least", "[desire]") {
    const config::weight_settings settings{.base = 100, .lag = config::lag_settings{10, 110}};
    CHECK(agent::weigh(settings, 0, 1) == 100);
    CHECK(agent::weigh(settings, 10, 1) == 100);
    CHECK(agent::weigh(settings, 60, 100) == 50);
    CHECK(agent::weigh(settings, 110, 100) == 1);
    CHECK(agent::weigh(settings, 1'000'000, 100) == 1);
    CHECK(agent::weigh({.base = 100, .lag = {}}, 1'000'000, 7) == 100);
}

TEST_CASE("weigh: a lag that stays about the same sends no command", "[desire]") {
    const config::weight_settings settings{.base = 100, .lag = config::lag_settings{0, 1000}};
    unsigned weight = 100;
    int commands = 0;
    for (int i = 0; i != 1000; ++i) {
        const unsigned next = agent::weigh(settings, 450 + static_cast<std::uint64_t>(i * 37 % 100), weight);
        commands += next != weight;
        weight = next;
    }
    CHECK(commands == 1);
    CHECK(weight > 40);
    CHECK(weight < 60);
}
