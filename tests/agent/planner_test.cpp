#include "agent/planner.hpp"

#include "../support/slots.hpp"
#include "world.hpp"

#include <catch2/catch.hpp>
#include <rapidcheck.h>

using namespace pointsman;
using namespace pointsman::test;
using namespace pointsman::agent;
using namespace std::chrono_literals;

namespace {

desired_slot want(const runtime_api::slot& s, admin_state state, std::optional<runtime_api::address> where = {},
                  std::optional<unsigned> weight = {}, bool check = true, bool cut = false) {
    return {.id = s.id,
            .member = "n",
            .where = where,
            .state = state,
            .weight = weight,
            .check = check,
            .cut = cut,
            .why = "test",
            .until = {}};
}

std::string text(const std::vector<planned>& steps) {
    std::string result;
    for (const planned& p : steps)
        result += (result.empty() ? "" : "; ") + render(p.what);
    return result;
}

// The plan for one slot.
std::string plan_for(const std::string& slot_text, admin_state state, std::optional<std::string> where = {},
                     std::optional<unsigned> weight = {}, bool check = true, bool cut = false) {
    const auto now = slots("b", slot_text);
    const std::vector<desired_slot> desired{
        want(now[0], state, where ? std::optional(address(*where)) : std::nullopt, weight, check, cut)};
    return text(plan(now, desired));
}

} // namespace

TEST_CASE("planner: one change of a slot is one command", "[planner]") {
    CHECK(plan_for("s ready 10.0.0.1:5432", admin_state::ready).empty());
    CHECK(plan_for("s ready 10.0.0.1:5432", admin_state::drain) == "set server b/s state drain");
    CHECK(plan_for("s ready 10.0.0.1:5432", admin_state::maint) == "set server b/s state maint");
    CHECK(plan_for("s drain 10.0.0.1:5432", admin_state::ready) == "set server b/s state ready");
    CHECK(plan_for("s drain 10.0.0.1:5432", admin_state::maint) == "set server b/s state maint");
    CHECK(plan_for("s maint 10.0.0.1:5432", admin_state::ready) ==
          "set server b/s state ready; set server b/s health up");
    CHECK(plan_for("s maint 10.0.0.1:5432", admin_state::drain) ==
          "set server b/s state drain; set server b/s health up");
    CHECK(plan_for("s ready", admin_state::ready, {}, 50) == "set server b/s weight 50");
    CHECK(plan_for("s ready", admin_state::ready, {}, 1).empty());
    CHECK(plan_for("s ready", admin_state::ready, {}, {}, false) == "set server b/s health up; disable health b/s");
    CHECK(plan_for("s ready unchecked", admin_state::ready) == "set server b/s health up; enable health b/s");
    CHECK(plan_for("s maint unchecked", admin_state::maint) == "enable health b/s");
}

TEST_CASE("planner: a cut goes with leaving service", "[planner]") {
    CHECK(plan_for("s ready", admin_state::maint, {}, {}, true, true) ==
          "set server b/s state maint; shutdown sessions server b/s");
    CHECK(plan_for("s drain", admin_state::maint, {}, {}, true, true) ==
          "set server b/s state maint; shutdown sessions server b/s");
    CHECK(plan_for("s maint", admin_state::maint, {}, {}, true, true).empty());
}

TEST_CASE("planner: R6 an address changes only in maint", "[planner]") {
    CHECK(plan_for("s maint", admin_state::maint, "10.0.0.1:5432") == "set server b/s addr 10.0.0.1 port 5432");
    CHECK(plan_for("s maint", admin_state::ready, "10.0.0.1:5432", 7) ==
          "set server b/s addr 10.0.0.1 port 5432; set server b/s weight 7; set server b/s state ready; "
          "set server b/s health up");
    CHECK(plan_for("s ready 10.0.0.2:5432", admin_state::ready, "10.0.0.1:5432") ==
          "set server b/s state maint; set server b/s addr 10.0.0.1 port 5432; set server b/s state ready; "
          "set server b/s health up");
    CHECK(plan_for("s drain 10.0.0.1:5433", admin_state::drain, "10.0.0.1:5432") ==
          "set server b/s state maint; set server b/s addr 10.0.0.1 port 5432; set server b/s state drain; "
          "set server b/s health up");
}

TEST_CASE("planner: a slot that can have no address gets no command", "[planner]") {
    CHECK(plan_for("s maint none", admin_state::ready, "10.0.0.1:5432").empty());
}

TEST_CASE("planner: everything is taken away before anything is given", "[planner]") {
    const auto now = slots("b", "s1 maint 10.0.0.1:5432, s2 ready 10.0.0.2:5432, s3 maint, s4 ready 10.0.0.4:5432");
    const std::vector<desired_slot> desired{
        want(now[0], admin_state::ready),
        want(now[1], admin_state::maint, {}, {}, true, true),
        want(now[2], admin_state::maint, address("10.0.0.3:5432")),
        want(now[3], admin_state::drain),
    };
    CHECK(text(plan(now, desired)) == "set server b/s2 state maint; shutdown sessions server b/s2; "
                                      "set server b/s4 state drain; "
                                      "set server b/s3 addr 10.0.0.3 port 5432; "
                                      "set server b/s1 state ready; set server b/s1 health up");
}

namespace {

std::vector<runtime_api::slot> some_slots() {
    std::string text;
    const auto count = *rc::gen::inRange(1, 6);
    for (int i = 1; i <= count; ++i) {
        text += (i == 1 ? "s" : ", s") + std::to_string(i) + " " +
                *rc::gen::element<std::string>("ready", "drain", "maint") + " 10.0.0." +
                std::to_string(*rc::gen::inRange(1, 5)) + ":5432 w" + std::to_string(*rc::gen::inRange(0, 3)) +
                *rc::gen::element<std::string>("", " unchecked");
    }
    return slots("b", text);
}

std::vector<desired_slot> some_wishes(const std::vector<runtime_api::slot>& now) {
    std::vector<desired_slot> desired;
    for (const auto& s : now) {
        desired.push_back(
            want(s, *rc::gen::element(admin_state::ready, admin_state::drain, admin_state::maint),
                 *rc::gen::arbitrary<bool>()
                     ? std::optional(address("10.0.0." + std::to_string(*rc::gen::inRange(1, 5)) + ":5432"))
                     : std::nullopt,
                 *rc::gen::arbitrary<bool>() ? std::optional(*rc::gen::inRange(0U, 3U)) : std::nullopt,
                 *rc::gen::arbitrary<bool>(), *rc::gen::arbitrary<bool>()));
    }
    return desired;
}

} // namespace

TEST_CASE("planner: laws", "[planner]") {
    SECTION("carried out, nothing is left to plan") {
        CHECK(rc::check([] {
            auto now = some_slots();
            const auto desired = some_wishes(now);
            for (const planned& p : plan(now, desired))
                apply(now, p.what);
            RC_ASSERT(plan(now, desired).empty());
        }));
    }
    SECTION("no command is superfluous, but for those whose effect no slot shows") {
        CHECK(rc::check([] {
            const auto begin = some_slots();
            const auto desired = some_wishes(begin);
            const auto steps = plan(begin, desired);
            for (std::size_t left_out = 0; left_out != steps.size(); ++left_out) {
                if (std::holds_alternative<runtime_api::shutdown_sessions>(steps[left_out].what) ||
                    std::holds_alternative<runtime_api::restore_health>(steps[left_out].what))
                    continue;
                auto now = begin;
                bool lawful = true;
                for (std::size_t i = 0; i != steps.size(); ++i) {
                    if (i == left_out)
                        continue;
                    apply(now, steps[i].what);
                    // Leaving out the maint before an address change shows at the change itself.
                    if (const auto* move = std::get_if<runtime_api::set_address>(&steps[i].what)) {
                        const auto at = std::ranges::find(now, move->slot, &runtime_api::slot::id);
                        lawful = lawful && at->admin == admin_state::maint;
                    }
                }
                RC_ASSERT(!lawful || !plan(now, desired).empty());
            }
        }));
    }
    SECTION("at no instant is an address changed out of maint, or a slot ready that is neither wanted nor was") {
        CHECK(rc::check([] {
            auto now = some_slots();
            const auto begin = now;
            const auto desired = some_wishes(now);
            for (const planned& p : plan(now, desired)) {
                const auto i = static_cast<std::size_t>(
                    std::ranges::find(now, slot_of(p.what), &runtime_api::slot::id) - now.begin());
                if (std::holds_alternative<runtime_api::set_address>(p.what))
                    RC_ASSERT(now[i].admin == admin_state::maint);
                apply(now, p.what);
                if (now[i].admin == admin_state::ready && begin[i].admin != admin_state::ready) {
                    RC_ASSERT(desired[i].state == admin_state::ready);
                    RC_ASSERT(!desired[i].where || desired[i].where == now[i].where);
                }
            }
        }));
    }
    SECTION("stopped anywhere and planned again, it arrives") {
        CHECK(rc::check([] {
            auto now = some_slots();
            const auto desired = some_wishes(now);
            const auto steps = plan(now, desired);
            const auto stop = *rc::gen::inRange<std::size_t>(0, steps.size() + 1);
            for (std::size_t i = 0; i != stop; ++i)
                apply(now, steps[i].what);
            for (const planned& p : plan(now, desired))
                apply(now, p.what);
            RC_ASSERT(plan(now, desired).empty());
        }));
    }
}
