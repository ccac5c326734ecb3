// The rules under random histories: whatever members, keys, answers and HAProxy go through, the invariants of design 2
// hold after every single command.
#include "../support/slots.hpp"
#include "world.hpp"

#include <catch2/catch.hpp>
#include <rapidcheck.h>

using namespace pointsman;
using namespace pointsman::test;
using namespace pointsman::agent;
using namespace std::chrono_literals;

namespace {

int ready_count(const std::vector<runtime_api::slot>& slots) {
    return static_cast<int>(std::ranges::count(slots, admin_state::ready, &runtime_api::slot::admin));
}

// Carries the plan out one command at a time, as the reconciler does with each stage, and looks after every one.
void pass(world& w, const std::string& backend) {
    auto now = w.slots_of(backend);
    for (int round = 0; round != 6; ++round) {
        w.slots(backend, text_of(now));
        const auto desired = w.desire(backend);
        const auto steps = plan(now, desired);
        for (const planned& p : steps) {
            if (p.when != steps.front().when)
                break;
            const int ready_before = ready_count(now);
            const bool is_move = std::holds_alternative<runtime_api::set_address>(p.what);
            const auto at = std::ranges::find(now, slot_of(p.what), &runtime_api::slot::id);
            if (is_move)
                RC_ASSERT(at->admin == admin_state::maint);
            apply(now, p.what);
            if (backend == "primary")
                RC_ASSERT(ready_count(now) <= std::max(1, ready_before));
        }
        if (steps.empty())
            break;
    }
    w.slots(backend, text_of(now));
    RC_ASSERT(plan(now, w.desire(backend)).empty());
}

node_says some_answer(bool is_leader) {
    return *rc::gen::element(is_leader ? writable() : standby(), writable(), standby(), silent(), dead(), gone(),
                             node_says{.status = 503, .role = "master"},
                             node_says{.status = 200, .state = "stopping", .role = "master"},
                             node_says{.status = 200, .role = "replica"});
}

} // namespace

TEST_CASE("rules: one writer, addresses in maint, and every pass arrives, whatever happens", "[rules]") {
    CHECK(rc::check([] {
        world w;
        w.slots("primary", "pg1 maint, pg2 maint, pg3 maint, pg4 maint");
        w.slots("replicas", "pg1 maint, pg2 maint, pg3 maint, pg4 maint");
        w.settings.pools[1].fallback_primary = *rc::gen::arbitrary<bool>();
        const std::vector<std::string> names{"n1", "n2", "n3"};
        for (const auto& name : names)
            w.member(name);

        const auto steps = *rc::gen::inRange(1, 40);
        for (int i = 0; i != steps; ++i) {
            const std::string name = *rc::gen::elementOf(names);
            const bool is_leader = w.c.leader && w.c.leader->name == name;
            switch (*rc::gen::inRange(0, 7)) {
                case 0: w.leader(name); break;
                case 1: w.no_leader(); break;
                case 2: w.says(name, some_answer(is_leader)); break;
                case 3: w.reads(name, *rc::gen::element(readable(), standby(), silent(), dead(), gone())); break;
                case 4: w.gone(name); break;
                case 5:
                    agent::set_addresses(w.c.members.at(name),
                                         address("10.0.1." + std::to_string(*rc::gen::inRange(1, 9)) + ":5432"), {});
                    break;
                default: break;
            }
            w.passes(std::chrono::milliseconds(*rc::gen::inRange(1, 40'000)));
            pass(w, "primary");
            pass(w, "replicas");

            // Who is in service is the leader, or nobody else is named and it was in before.
            for (const auto& d : w.desire("primary")) {
                if (d.state == admin_state::ready && d.member && w.c.leader)
                    RC_ASSERT(*d.member == w.c.leader->name);
            }
        }
    }));
}

TEST_CASE("rules: once the faults end the leader is served within one pass of its yes", "[rules]") {
    CHECK(rc::check([] {
        world w;
        w.slots("primary", *rc::gen::element<std::string>("pg1 maint, pg2 maint, pg3 maint",
                                                          "pg1 ready 10.0.0.1:5432, pg2 maint, pg3 maint",
                                                          "pg1 ready 10.0.0.2:5432, pg2 ready 10.0.0.3:5432, pg3 maint",
                                                          "pg1 drain 10.0.0.1:5432, pg2 maint 10.0.0.1:5432, pg3 maint",
                                                          "pg1 ready 10.0.0.9:5432, pg2 maint, pg3 maint"));
        for (const auto* name : {"n1", "n2", "n3"})
            w.member(name).says(name, some_answer(false));
        const std::string name = *rc::gen::element<std::string>("n1", "n2", "n3");
        w.leader(name).passes(5ms).says(name, writable());
        pass(w, "primary");

        const auto& slots = w.slots_of("primary");
        RC_ASSERT(ready_count(slots) == 1);
        const auto at = std::ranges::find(slots, admin_state::ready, &runtime_api::slot::admin);
        RC_ASSERT(at->where == address("10.0.0." + name.substr(1) + ":5432"));
    }));
}
