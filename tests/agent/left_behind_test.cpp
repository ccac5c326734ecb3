#include "../support/slots.hpp"
#include "agent/left_behind.hpp"

#include <catch2/catch.hpp>

#include <string>

using namespace pointsman;
using namespace pointsman::test;
using namespace pointsman::agent;

namespace {

// An old worker whose pg1 is 10.0.0.1 and pg2 10.0.0.2, with one session on each in both backends.
runtime_api::old_worker worker() {
    runtime_api::old_worker w{
        .pid = 7, .slots = slots("primary", "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432"), .sessions = {}};
    for (auto& s : slots("replicas", "pg1 maint 10.0.0.1:5432, pg2 ready 10.0.0.2:5432, pg3 maint none"))
        w.slots.push_back(s);
    int key = 0;
    for (const auto& s : w.slots)
        w.sessions.push_back({"0x" + std::to_string(++key), s.id});
    return w;
}

std::string ended(const session_rules& rules) {
    std::string text;
    for (const auto& session : to_end(rules, worker()))
        text += (text.empty() ? "" : " ") + to_string(session.slot);
    return text;
}

} // namespace

TEST_CASE("left behind: sessions with a demoted member end, in its own backend only", "[left_behind]") {
    const session_rules rules{
        {"primary", {.ends = {{address("10.0.0.1:5432"), true}, {address("10.0.0.2:5432"), false}}}},
        {"replicas", {.ends = {{address("10.0.0.1:5432"), false}, {address("10.0.0.2:5432"), false}}}}};
    CHECK(ended(rules) == "primary/pg1");
    CHECK(any_end(rules));
}

TEST_CASE("left behind: a session is told by the address that its slot had in the old worker", "[left_behind]") {
    // In service today pg1 is another member's; the old worker knows nothing of that.
    const session_rules rules{
        {"primary", {.ends = {{address("10.0.0.9:5432"), false}, {address("10.0.0.2:5432"), true}}}}};
    CHECK(ended(rules) == "primary/pg2");
}

TEST_CASE("left behind: an address that is no member's ends only where another is the writer", "[left_behind]") {
    CHECK(ended({{"primary", {.ends = {}, .others_end = true}}}) == "primary/pg1 primary/pg2");
    CHECK(ended({{"primary", {.ends = {}, .others_end = false}}}).empty());
}

TEST_CASE("left behind: a backend without a rule is none of our business", "[left_behind]") {
    CHECK(ended({}).empty());
    CHECK_FALSE(any_end({}));
    CHECK_FALSE(any_end({{"primary", {.ends = {{address("10.0.0.1:5432"), false}}}}}));
}
