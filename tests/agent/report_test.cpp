// What `/api/v1/state` says, and what `why` and `plan` make of it.
#include "../support/slots.hpp"
#include "agent/report.hpp"
#include "agent/why.hpp"
#include "world.hpp"

#include <catch2/catch.hpp>

using namespace pointsman;
using namespace pointsman::test;
using namespace pointsman::agent;
using namespace std::chrono_literals;

namespace {

template<class T>
T said(const told<T>& words) {
    REQUIRE(words.has_value());
    return *words;
}

// A cluster whose leader n1 has its slot, and whose replica n2 has said yes once.
class scene {
public:
    scene() {
        w.member("n1").member("n2").leader("n1").passes(1s);
        w.says("n1", {.status = 200, .role = "master", .wal = 5000, .timeline = 7}).says("n2", standby());
        w.reads("n1", standby()).reads("n2", {.status = 200, .wal = 4000, .timeline = 7});
        see("pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 maint");
    }

    void see(const std::string& primary, std::int64_t pid = 100) {
        runtime_api::observation seen{{"2.6.12", 2, 6, pid, 5000, false}, slots("primary", primary), {}};
        for (auto& s : slots("replicas", "pg1 maint 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 maint"))
            seen.slots.push_back(s);
        w.c.confirmed = w.now;
        p.begin();
        if (std::holds_alternative<count_sessions>(p.seen(std::move(seen), w.now)))
            p.counted(std::vector<runtime_api::server_statistics>{}, w.now);
    }

    std::string state() { return render_state(p, w.now); }
    std::string why(const std::string& what) { return said(explain(state(), what, false)); }

    world w;
    passes p{{{w.settings, w.c, 5s}}, "/haproxy.sock"};
};

bool has(const std::string& text, const std::string& part) {
    INFO(text);
    return text.find(part) != std::string::npos;
}

} // namespace

TEST_CASE("why: a member's inputs with their ages, its slots, the rule and what would change it", "[why]") {
    scene s;
    s.w.passes(3s);
    const std::string text = s.why("n2");
    CHECK(has(text, "member n2 of cluster demo\n"));
    CHECK(has(text, "  etcd         readable, read 3.0 s ago\n"));
    CHECK(has(text, "  leader key   names n1 (term 1, seen 4.0 s ago)\n"));
    CHECK(has(text, "  address      10.0.0.2:5432, REST API "));
    CHECK(has(text, "  lag          1000 B\n"));
    CHECK(has(text, "  /master      no: 503, state running, role replica; 1 in a row, for 3.0 s; asked 3.0 s ago"));
    CHECK(has(text, "  /replica     yes: 200, state running, role replica; 1 in a row, for 3.0 s; asked 3.0 s ago"));
    CHECK(has(text, "timeline 7"));
    CHECK(has(text, "  primary/pg2: maint 10.0.0.2, weight 1, HAProxy says down; desired: maint\n"
                    "      because  not the leader\n"
                    "      until    the leader key naming it, and after that a yes of its node\n"));
    CHECK(has(text, "      because  R3: a first yes, waiting for the second\n"
                    "      until    one more yes of its node\n"));
}

TEST_CASE("why: a slot, whose it is or nobody's", "[why]") {
    scene s;
    CHECK(has(s.why("primary/pg1"), "slot primary/pg1 of cluster demo: member n1\n"));
    CHECK(has(s.why("primary/pg1"), "  primary/pg1: ready 10.0.0.1"));
    CHECK_FALSE(has(s.why("primary/pg1"), "replicas/pg1"));
    CHECK(has(s.why("primary/pg3"), "slot primary/pg3 of cluster demo: no member's\n"));
    CHECK(has(s.why("primary/pg3"), "      because  free\n"));
}

TEST_CASE("why: a name that nothing has, and an answer that is none", "[why]") {
    scene s;
    const auto unknown = explain(s.state(), "n7\x1b[2J", false);
    REQUIRE(unknown.has_error());
    CHECK(unknown.error().not_found);
    CHECK(unknown.error().detail ==
          "no member and no BACKEND/SLOT is called n7\\x1b[2J; of a member that is gone, `pointsman events` tells how "
          "it went");
    for (const std::string document : {"", "[]", "{}", R"({"clusters":7})", "<html>"}) {
        CAPTURE(document);
        const auto none = explain(document, "n1", false);
        REQUIRE(none.has_error());
        CHECK_FALSE(none.error().not_found);
        CHECK(explain_plan(document, false).has_error());
    }
    CHECK(explain(std::string(1000, '[') + std::string(1000, ']'), "n1", false).has_error());
    // Parts of it of other types than expected are as good as absent.
    CHECK(has(said(explain(R"({"clusters":[{"members":[{"name":"n1","checks":[7,{"path":[]}]}],"pools":[1]}]})", "n1",
                           false)),
              "member n1 of cluster -\n"));
}

TEST_CASE("why: while etcd cannot be read, HAProxy does not answer, or a member is gone it says so", "[why]") {
    scene s;
    s.w.passes(1min);
    CHECK(has(s.why("n1"), "NOT READABLE: probes alone decide (R4), read 60.0 s ago"));
    s.w.no_leader().gone("n1");
    s.w.passes(5s);
    CHECK(has(s.why("n1"), "  leader key   is gone; it named n1 last\n"));
    CHECK(has(s.why("n1"), "  in etcd      no, for 5.0 s\n"));
    s.p.begin();
    s.p.seen(runtime_api::failure{runtime_api::errc::unreachable, "haproxy /haproxy.sock: connection refused"},
             s.w.now);
    CHECK(has(s.why("n1"),
              "HAProxy does not answer, slots are as last seen: haproxy /haproxy.sock: connection refused\n"));
}

TEST_CASE("plan: the commands of the next pass, each with its reason", "[why]") {
    scene s;
    const auto nothing = said(explain_plan(s.state(), false));
    CHECK(nothing.commands == 0);
    CHECK(nothing.text == "nothing to do: every slot is as it should be\n");
    CHECK(said(explain_plan(s.state(), true)).text == "[]\n");

    s.w.leader("n2").says("n1", standby());
    const auto next = said(explain_plan(s.state(), false));
    CHECK(next.commands == 2);
    CHECK(next.text ==
          "set server primary/pg1 state maint   # demo, member n1: R2: the leader key names another member\n"
          "shutdown sessions server primary/pg1   # demo, member n1: R2: the leader key names another member\n");
    CHECK(has(s.why("n1"),
              "      next     set server primary/pg1 state maint   (R2: the leader key names another member)\n"));
}

TEST_CASE("plan: what a new process of HAProxy and a cut that failed ask for is in it", "[why]") {
    scene s;
    s.see("pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 maint", 200);
    CHECK(said(explain_plan(s.state(), false)).text ==
          "set server primary/pg1 health up   # demo, member n1: R3: one failed check is not enough\n");

    s.w.leader("n2").says("n1", standby());
    s.see("pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 maint", 200);
    s.p.answered(runtime_api::failure{runtime_api::errc::timeout, "no answer in time"}, s.w.now, s.w.now);
    s.see("pg1 maint 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 maint", 200);
    CHECK(has(said(explain_plan(s.state(), false)).text, "shutdown sessions server primary/pg1"));
}

TEST_CASE("why and plan: that nothing is sent is said with them", "[why]") {
    scene s;
    s.p.begin({conduct::paused, "2026-11-25 21:00:00"});
    CHECK(has(s.why("n1"), "PAUSED until 2026-11-25 21:00:00: nothing is sent to HAProxy\n"));
    CHECK(said(explain_plan(s.state(), false)).text ==
          "# PAUSED until 2026-11-25 21:00:00: nothing is sent to HAProxy\n");
    CHECK(complaints(s.p, s.w.now).front() == "paused until 2026-11-25 21:00:00: nothing is sent to HAProxy");
    s.p.begin({conduct::shadow, {}});
    CHECK(has(s.why("n1"), "this daemon is a shadow: nothing is sent to HAProxy\n"));
    CHECK(complaints(s.p, s.w.now).empty());
}

TEST_CASE("plan: what time alone changes is in it", "[why]") {
    scene s;
    s.w.says("n1", {.status = 503, .role = "master"}, 2);
    CHECK_FALSE(has(said(explain_plan(s.state(), false)).text, "state maint")); // held on a lone no
    s.w.passes(lone_no);
    s.w.c.confirmed = s.w.now;
    CHECK(has(said(explain_plan(s.state(), false)).text, "set server primary/pg1 state maint"));
}

TEST_CASE("readiness: every pool in step, HAProxy answering, or a sentence for each that is not", "[report]") {
    scene s;
    CHECK(complaints(s.p, s.w.now).empty());
    s.w.leader("n2");
    CHECK(complaints(s.p, s.w.now) ==
          std::vector<std::string>{
              "cluster demo, pool primary: not in step: `set server primary/pg1 state maint` is to be sent"});
    s.p.begin();
    s.p.seen(runtime_api::failure{runtime_api::errc::unreachable, "haproxy: refused"}, s.w.now);
    CHECK(complaints(s.p, s.w.now).front() == "haproxy: refused");

    const passes fresh({{s.w.settings, s.w.c, 5s}}, "/haproxy.sock");
    CHECK(complaints(fresh, s.w.now) == std::vector<std::string>{"haproxy: not read yet",
                                                                 "cluster demo, pool primary: not known yet",
                                                                 "cluster demo, pool replicas: not known yet"});
}
