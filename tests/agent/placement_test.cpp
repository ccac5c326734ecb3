#include "agent/placement.hpp"

#include "../support/slots.hpp"

#include <catch2/catch.hpp>
#include <rapidcheck.h>

#include <sstream>

using namespace pointsman;
using namespace pointsman::test;
using agent::candidate;
using agent::placement;

namespace {

// "n1 10.0.0.1:5432, n2* 10.0.0.2:5432": the star marks the leader, a missing address one that is not known.
std::vector<candidate> members(const std::string& text) {
    std::vector<candidate> result;
    std::istringstream rows(text);
    for (std::string row; std::getline(rows, row, ',');) {
        std::istringstream words(row);
        candidate m;
        words >> m.name;
        m.leader = m.name.back() == '*';
        if (m.leader)
            m.name.pop_back();
        if (std::string where; words >> where)
            m.where = address(where);
        result.push_back(std::move(m));
    }
    return result;
}

// "n1@pg1 n2@pg2"
std::string text_of(const placement& p) {
    std::string result;
    for (const auto& [name, slot] : p.slots)
        result += (result.empty() ? "" : " ") + name + "@" + slot.server();
    for (const auto& name : p.without_slot)
        result += " " + name + "@none";
    for (const auto& [name, other] : p.same_address)
        result += " " + name + "=" + other;
    return result;
}

std::string place(const std::string& slots_text, const std::string& members_text, const placement& before = {}) {
    const auto all = slots("b", slots_text);
    return text_of(agent::place(all, members(members_text), before));
}

} // namespace

TEST_CASE("placement: fresh slots are given in HAProxy's order, the leader first", "[placement]") {
    CHECK(place("pg1 maint, pg2 maint, pg3 maint", "a 10.0.0.1:5432, b* 10.0.0.2:5432") == "a@pg2 b@pg1");
}

TEST_CASE("placement: members are found where their addresses are, without memory", "[placement]") {
    CHECK(place("pg1 maint, pg2 ready 10.0.0.1:5432, pg3 maint 10.0.0.2:5432", "a 10.0.0.1:5432, b 10.0.0.2:5432") ==
          "a@pg2 b@pg3");
}

TEST_CASE("placement: a member that returns finds its slot, a new one takes the first that is free", "[placement]") {
    const std::string freed = "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 maint";
    CHECK(place(freed, "a 10.0.0.1:5432, b 10.0.0.2:5432") == "a@pg1 b@pg2");
    CHECK(place(freed, "a 10.0.0.1:5432, c 10.0.0.3:5432") == "a@pg1 c@pg2");
    CHECK(place(freed, "a 10.0.0.1:5432, b 10.0.0.2:5432, c 10.0.0.3:5432") == "a@pg1 b@pg2 c@pg3");
}

TEST_CASE("placement: a slot in service or drained is not free, whoever it belongs to", "[placement]") {
    CHECK(place("pg1 ready 10.0.0.9:5432, pg2 drain 10.0.0.8:5432, pg3 maint", "a 10.0.0.1:5432") == "a@pg3");
}

TEST_CASE("placement: a slot that can have no address is never given", "[placement]") {
    CHECK(place("pg1 maint none, pg2 maint", "a 10.0.0.1:5432") == "a@pg2");
}

TEST_CASE("placement: a member whose address changes keeps its slot", "[placement]") {
    const auto all = slots("b", "pg1 maint, pg2 ready 10.0.0.1:5432");
    const auto before = agent::place(all, members("a 10.0.0.1:5432"), {});
    REQUIRE(text_of(before) == "a@pg2");
    CHECK(text_of(agent::place(all, members("a 10.0.0.7:5432"), before)) == "a@pg2");
}

TEST_CASE("placement: a member whose address is not known keeps the slot it had", "[placement]") {
    const auto all = slots("b", "pg1 ready 10.0.0.1:5432");
    const auto before = agent::place(all, members("a 10.0.0.1:5432"), {});
    CHECK(text_of(agent::place(all, members("a"), before)) == "a@pg1");
    CHECK(text_of(agent::place(all, members("a"), {})).empty());
}

TEST_CASE("placement: of two slots with its address a member has the one in service", "[placement]") {
    CHECK(place("pg1 maint 10.0.0.1:5432, pg2 ready 10.0.0.1:5432", "a 10.0.0.1:5432") == "a@pg2");
}

TEST_CASE("placement: two members with one address get one slot, the leader's word counts", "[placement]") {
    CHECK(place("pg1 maint, pg2 maint", "a 10.0.0.1:5432, b* 10.0.0.1:5432") == "b@pg1 a=b");
}

TEST_CASE("placement: without a free slot the member is named, and the leader gets that of one out of service",
          "[placement]") {
    const std::string full = "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432";
    CHECK(place(full, "a 10.0.0.1:5432, b 10.0.0.2:5432, c 10.0.0.3:5432") == "a@pg1 b@pg2 c@none");
    CHECK(place(full, "a 10.0.0.1:5432, b 10.0.0.2:5432, c* 10.0.0.3:5432") == "a@pg1 c@pg2 b@none");
}

TEST_CASE("placement: a drained slot is given up only for a leader that writes (R10)", "[placement]") {
    const auto all = slots("b", "pg1 ready 10.0.0.1:5432, pg2 drain 10.0.0.2:5432");
    auto three = members("a 10.0.0.1:5432, b 10.0.0.2:5432, c* 10.0.0.3:5432");
    CHECK(text_of(agent::place(all, three, {})) == "a@pg1 b@pg2 c@none");
    three.back().may_cut = true;
    CHECK(text_of(agent::place(all, three, {})) == "a@pg1 c@pg2 b@none");
}

TEST_CASE("placement: a slot in service is not taken from its member, not even for the leader", "[placement]") {
    CHECK(place("pg1 ready 10.0.0.1:5432", "a 10.0.0.1:5432, c* 10.0.0.3:5432") == "a@pg1 c@none");
}

TEST_CASE("placement: no slot is given twice, nobody who could have one is forgotten", "[placement]") {
    const bool held = rc::check([] {
        const auto count = *rc::gen::inRange(1, 7);
        std::string text;
        for (int i = 1; i <= count; ++i) {
            const auto where = *rc::gen::inRange(0, 6);
            text += (i == 1 ? "" : ", ") + std::string("pg") + std::to_string(i) + " " +
                    *rc::gen::element<std::string>("ready", "drain", "maint") +
                    (where ? " 10.0.0." + std::to_string(where) + ":5432" : "");
        }
        std::vector<candidate> all;
        const auto some = *rc::gen::container<std::vector<int>>(rc::gen::inRange(1, 9));
        for (const int n : some)
            all.push_back({"n" + std::to_string(n), address("10.0.0." + std::to_string(n) + ":5432"), false});
        std::ranges::sort(all, {}, &candidate::name);
        all.erase(std::unique(all.begin(), all.end(), [](auto& a, auto& b) { return a.name == b.name; }), all.end());
        if (!all.empty())
            all[*rc::gen::inRange<std::size_t>(0, all.size())].leader = *rc::gen::arbitrary<bool>();

        const auto now = slots("b", text);
        const auto result = agent::place(now, all, {});
        std::set<std::string> used;
        for (const auto& [name, slot] : result.slots)
            RC_ASSERT(used.insert(slot.server()).second);
        RC_ASSERT(result.slots.size() + result.without_slot.size() == all.size());
        RC_ASSERT(text_of(agent::place(now, all, result)) == text_of(result)); // and again the same
    });
    CHECK(held);
}
