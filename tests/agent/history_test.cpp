#include "agent/fault.hpp"
#include "agent/history.hpp"

#include <catch2/catch.hpp>

#include <string>

using namespace pointsman::agent;
using namespace std::chrono_literals;

namespace {

event slot_event() {
    return {.how = severity::error,
            .kind = "slot",
            .scope = "demo",
            .subject = "primary/pg1",
            .member = "n\x1b[31m1",
            .text = "ready -> maint; 3 sessions cut",
            .why = "R2: the leader key names another member",
            .commands = {{"set server primary/pg1 state maint", true, 0.5}, {"shutdown sessions", false, 0.5}},
            .cut = 3};
}

} // namespace

TEST_CASE("history: what is written is read again", "[history]") {
    history h;
    CHECK(*parse_events(render_events(h)) == h);
    record(h, "2026-11-25T20:47:03.120+01:00", slot_event());
    record(h, "2026-11-25T20:47:04.120+01:00", {.kind = "agent", .text = "stopped"});
    CHECK(*parse_events(render_events(h)) == h);
    CHECK(h.back().id == 2);
}

TEST_CASE("history: the oldest goes where there would be too many, and numbers go on", "[history]") {
    history h;
    for (std::size_t i = 0; i != longest_history + 2; ++i)
        record(h, "t", {.kind = "agent"});
    CHECK(h.size() == longest_history);
    CHECK(h.front().id == 3);
    auto again = *parse_events(render_events(h));
    record(again, "t", {.kind = "agent"});
    CHECK(again.back().id == longest_history + 3);
}

TEST_CASE("history: what is no list of events is refused as a whole", "[history]") {
    const auto* text = GENERATE("", "{}", "[1]", "[{}]", R"([{"id":-1}])", R"([{"id":2},{"id":2}])", "[{\"id\":1}",
                                R"([{"id":1,"commands":[[[[[]]]]]}])");
    CAPTURE(text);
    CHECK(parse_events(text).has_error());
}

TEST_CASE("history: keys of another type or version are as good as absent", "[history]") {
    const auto h =
        parse_events(R"([{"id":7,"time":8,"severity":"fatal","commands":{"a":1},"sessions_cut":-4,"new":[]}])");
    CHECK(*h == history{{7, "", event{}}});
}

TEST_CASE("history: people read what happened, why, what was sent, and no terminal obeys it", "[history]") {
    history h;
    record(h, "2026-11-25T20:47:03.120+01:00", slot_event());
    record(h, "2026-11-25T20:47:04.120+01:00", {.kind = "haproxy", .text = "answers again"});
    CHECK(describe_events(h) ==
          "! 2026-11-25T20:47:03.120+01:00  demo: primary/pg1 n\\x1b[31m1: ready -> maint; 3 sessions "
          "cut\n"
          "      because  R2: the leader key names another member\n"
          "      sent     set server primary/pg1 state maint   ok, 0.50 ms\n"
          "      sent     shutdown sessions   FAILED, 0.50 ms\n"
          "  2026-11-25T20:47:04.120+01:00  haproxy: answers again\n");
}

TEST_CASE("fault: told when it begins, every minute, and when it ends", "[fault]") {
    const time_point begin{1h};
    fault f;
    CHECK(!f.over(begin));
    auto told = f.seen("gone", begin);
    REQUIRE(told);
    CHECK((told->text == "gone" && told->news));
    for (auto at = 1s; at != 60s; ++at)
        CHECK(!f.seen("gone", begin + at));
    told = f.seen("gone", begin + 60s);
    REQUIRE(told);
    CHECK((told->text == "gone (still, after 60.0 s, seen 61 times)" && !told->news));
    CHECK(!f.seen("gone", begin + 119s));
    CHECK(f.seen("gone", begin + 120s));
    CHECK(f.over(begin + 121s) == "after 2 min, seen 63 times");
    CHECK(!f);
    CHECK(f.seen("gone", begin + 122s)->text == "gone");
}

TEST_CASE("fault: another text is news, two that take turns are not", "[fault]") {
    const time_point begin{1h};
    fault f;
    f.seen("refused", begin);
    CHECK(!f.seen("hung", begin + 9s));
    const auto told = f.seen("hung", begin + 10s);
    REQUIRE(told);
    CHECK((told->news && told->text == "hung (still, after 10.0 s, seen 3 times)"));
    CHECK(!f.seen("refused", begin + 11s));
    CHECK(f.text() == "refused");
}
