#include "agent/slot_map.hpp"

#include <catch2/catch.hpp>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

using namespace pointsman::agent;

namespace {

slot_row used(std::string backend, std::string slot, std::string member, std::string address) {
    slot_row row;
    row.backend = std::move(backend);
    row.slot = std::move(slot);
    row.member = std::move(member);
    row.address = std::move(address);
    row.port = std::uint16_t{5432};
    row.state = "ready";
    row.operational = "up";
    row.weight = 100;
    row.sessions = 12U;
    row.desired = "ready";
    row.in_step = true;
    return row;
}

slot_row unused(std::string backend, std::string slot) {
    slot_row row;
    row.backend = std::move(backend);
    row.slot = std::move(slot);
    row.address = "127.0.0.1";
    row.port = std::uint16_t{1};
    row.state = "maint";
    row.operational = "down";
    row.weight = 1;
    row.sessions = 0U;
    row.desired = "maint";
    row.in_step = true;
    return row;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::istringstream in(text);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);)
        lines.push_back(line);
    return lines;
}

std::string member_cell(std::string member) {
    const std::string line = lines_of(render_table(std::vector{used("b", "pg1", std::move(member), "10.0.0.1")})).at(2);
    const std::size_t begin = std::string_view("  pg1   ").size();
    const std::string cell = line.substr(begin, line.find("  10.0.0.1") - begin);
    return cell.substr(0, cell.find_last_not_of(' ') + 1);
}

std::string error_of(std::string_view text) {
    const auto rows = parse_json(text);
    return rows.has_error() ? rows.error() : "(no error)";
}

const std::string least = R"("backend":"b","slot":"s","state":"maint","operational":"down","weight":1)";

} // namespace

TEST_CASE("slot map: a row begins with what HAProxy says, and knows nothing of what is desired", "[slot_map]") {
    const pointsman::runtime_api::slot slot{
        .id = pointsman::runtime_api::slot_id::parse("primary", "pg1").value(),
        .where = pointsman::runtime_api::address::parse("10.0.0.1", 5432),
        .admin = pointsman::runtime_api::admin_state::drain,
        .operational = pointsman::runtime_api::operational_state::stopping,
        .weight = 100,
    };

    const slot_row row = row_of(slot);

    CHECK(row.backend == "primary");
    CHECK(row.slot == "pg1");
    CHECK(row.address == "10.0.0.1");
    CHECK(row.port == 5432);
    CHECK(row.state == "drain");
    CHECK(row.operational == "stopping");
    CHECK(row.weight == 100);
    CHECK_FALSE(row.member);
    CHECK_FALSE(row.sessions);
    CHECK_FALSE(row.desired);
    CHECK_FALSE(row.in_step);
}

TEST_CASE("slot map: the table is grouped by backend, in HAProxy's order", "[slot_map]") {
    std::vector<slot_row> rows{used("replicas", "pg1", "node1", "10.0.0.1"), unused("replicas", "pg2"),
                               used("primary", "pg1", "node2", "10.0.0.2"),
                               used("replicas", "pg3", "node3", "fd00::3")};
    rows[2].state = "maint";
    rows[2].operational = "down";
    rows[2].in_step = false;
    rows[2].why = "the leader key names node2 and its probe says yes (R2)";
    rows[2].sessions.reset();
    rows[3].weight = 1;
    rows[3].desired.reset();
    rows[3].in_step.reset();

    CHECK(render_table(rows) == "  SLOT  MEMBER  ADDRESS         STATE  OPERATIONAL  WEIGHT  SESSIONS  DESIRED\n"
                                "replicas\n"
                                "  pg1   node1   10.0.0.1:5432   ready  up              100        12  ready\n"
                                "  pg2   -       free\n"
                                "  pg3   node3   [fd00::3]:5432  ready  up                1        12  ?\n"
                                "primary\n"
                                "! pg1   node2   10.0.0.2:5432   maint  down            100         ?  ready\n"
                                "    the leader key names node2 and its probe says yes (R2)\n");
}

TEST_CASE("slot map: without a slot the table says so", "[slot_map]") {
    CHECK(render_table({}) == "no slots\n");
}

TEST_CASE("slot map: a slot without a member is shown in full where it is not as it should be", "[slot_map]") {
    slot_row open = unused("b", "pg1");
    open.state = "ready";
    slot_row drifted = unused("b", "pg2");
    drifted.in_step = false;
    slot_row unset = unused("b", "pg3");
    unset.state = "drain";
    unset.address.reset();

    const auto lines = lines_of(render_table(std::vector{open, drifted, unset}));

    CHECK(lines.at(2) == "  pg1   -       127.0.0.1:1  ready  down              1         0  maint");
    CHECK(lines.at(3) == "! pg2   -       127.0.0.1:1  maint  down              1         0  maint");
    CHECK(lines.at(4) == "  pg3   -       -            drain  down              1         0  maint");
}

TEST_CASE("slot map: columns are aligned by what a terminal shows, not by bytes", "[slot_map]") {
    const auto lines = lines_of(render_table(std::vector{
        used("b", "pg1", "データ", "10.0.0.1"),       // three characters, six columns
        used("b", "pg2", "cafe\xcc\x81", "10.0.0.2"), // the accent is a character of its own
        used("b", "pg3", "größe", "10.0.0.3"),
    }));
    CHECK(lines.at(2) == "  pg1   データ  10.0.0.1:5432  ready  up              100        12  ready");
    CHECK(lines.at(3) == "  pg2   cafe\xcc\x81    10.0.0.2:5432  ready  up              100        12  ready");
    CHECK(lines.at(4) == "  pg3   größe   10.0.0.3:5432  ready  up              100        12  ready");
}

TEST_CASE("slot map: what could steer a terminal or deceive its reader is shown as an escape", "[slot_map]") {
    const auto [name, member, shown] = GENERATE(table<std::string, std::string, std::string>({
        {"an escape sequence", "a\x1b[2Jb", "a\\x1b[2Jb"},
        {"a line's end", "a\nb", "a\\x0ab"},
        {"a NUL", std::string("a\0b", 3), "a\\x00b"},
        {"DEL", "a\x7f", "a\\x7f"},
        {"a C1 control in UTF-8", "a\xc2\x9b", "a\\x9b"},
        {"a right-to-left override", "a\xe2\x80\xae", "a\\u202e"},
        {"a zero-width space", "a\xe2\x80\x8b", "a\\u200b"},
        {"a tag", "a\xf3\xa0\x81\x81", "a\\U000e0041"},
        {"a byte that is not UTF-8", "a\xff", "a\\xff"},
        {"a sequence cut off", "a\xe2\x82", "a\\xe2\\x82"},
        {"an overlong sequence", "a\xe0\x80\xaf", "a\\xe0\\x80\\xaf"},
        {"a surrogate", "a\xed\xa0\x80", "a\\xed\\xa0\\x80"},
        {"past the last character", "a\xf4\x90\x80\x80", "a\\xf4\\x90\\x80\\x80"},
    }));
    CAPTURE(name);
    CHECK(member_cell(member) == shown);
}

TEST_CASE("slot map: no text of a row reaches the terminal as it is", "[slot_map]") {
    slot_row row = used("b\x1b", "s\x1b", "m\x1b", "a\x1b");
    row.state = row.operational = "s\x1b";
    row.desired = "d\x1b";
    row.in_step = false;
    row.why = "w\x1b";

    const std::string table = render_table(std::vector{row});

    CHECK(table.find('\x1b') == std::string::npos);
    CHECK(lines_of(table).size() == 4);
}

TEST_CASE("slot map: colours are used only where they are asked for", "[slot_map]") {
    std::vector<slot_row> rows{used("b", "pg1", "node1", "10.0.0.1"), unused("b", "pg2"),
                               used("b", "pg3", "node3", "10.0.0.3")};
    rows[2].in_step = false;

    CHECK(render_table(rows).find('\x1b') == std::string::npos);

    const auto lines = lines_of(render_table(rows, {.colour = true}));
    CHECK(lines.at(2).find('\x1b') == std::string::npos);
    CHECK(lines.at(3) == "\x1b[2m  pg2   -       free\x1b[0m");
    CHECK(lines.at(4).starts_with("\x1b[31m! pg3"));
}

TEST_CASE("slot map: long names are shortened in the middle until the table fits", "[slot_map]") {
    const std::vector<slot_row> rows{used("b", "pg1", "postgresql-production-europe-west-1", "10.0.0.1"),
                                     used("b", "pg2", "postgresql-production-europe-west-2", "10.0.0.2"),
                                     used("b", "pg3", "データデータデータデータデータデータ", "10.0.0.3")};

    const auto lines = lines_of(render_table(rows, {.width = 90}));

    // `…` is three bytes for one column.
    CHECK(lines.at(2) == "  pg1   postgresq…ope-west-1  10.0.0.1:5432  ready  up              100        12  ready");
    CHECK(lines.at(3) == "  pg2   postgresq…ope-west-2  10.0.0.2:5432  ready  up              100        12  ready");
    CHECK(lines.at(0).size() == 90);
    CHECK(lines_of(render_table(rows, {.width = 1})).at(2).find("  pg1   postg…west-1  10.0.0.1:5432") == 0);
    CHECK(lines_of(render_table(rows, {.width = 200})).at(2).find("…") == std::string::npos);
}

TEST_CASE("slot map: JSON has every key of the contract, null where nothing is known", "[slot_map]") {
    slot_row known = used("primary", "pg1", "node1", "10.0.0.1");
    known.why = "R2";
    slot_row unknown;
    unknown.backend = "primary";
    unknown.slot = "pg2";
    unknown.state = "maint";
    unknown.operational = "down";

    CHECK(render_json(std::vector{known, unknown}) ==
          "[\n"
          R"({"backend":"primary","slot":"pg1","member":"node1","address":"10.0.0.1","port":5432,"state":"ready",)"
          R"("operational":"up","weight":100,"sessions":12,"desired":"ready","in_step":true,"why":"R2"})"
          ",\n"
          R"({"backend":"primary","slot":"pg2","member":null,"address":null,"port":null,"state":"maint",)"
          R"("operational":"down","weight":0,"sessions":null,"desired":null,"in_step":null})"
          "\n]\n");
    CHECK(render_json({}) == "[]\n");
}

TEST_CASE("slot map: a name that is not UTF-8 does not spoil the JSON", "[slot_map]") {
    const std::string text = render_json(std::vector{used("b", "pg1", "a\xff", "10.0.0.1")});

    const auto rows = parse_json(text);

    REQUIRE(rows.has_value());
    CHECK(rows->at(0).member == "a\xef\xbf\xbd");
}

TEST_CASE("slot map: JSON read again is the same map", "[slot_map]") {
    const bool held = rc::check([] {
        const auto text = rc::gen::container<std::string>(rc::gen::inRange<char>(0, 127));
        const auto maybe = [](const auto& gen) { return rc::gen::maybe(gen); };
        const auto optional = [](const auto& from) {
            using T = std::decay_t<decltype(*from)>;
            return from ? std::optional<T>(*from) : std::nullopt;
        };
        std::vector<slot_row> rows(*rc::gen::inRange<std::size_t>(0, 5));
        for (slot_row& row : rows) {
            row.backend = *text;
            row.slot = *text;
            row.member = optional(*maybe(text));
            row.address = optional(*maybe(text));
            row.port = optional(*maybe(rc::gen::inRange<std::uint16_t>(1, 65535)));
            row.state = *rc::gen::element<std::string>("ready", "drain", "maint");
            row.operational = *rc::gen::element<std::string>("up", "down", "starting", "stopping");
            row.weight = *rc::gen::inRange(0U, 257U);
            row.sessions = optional(*maybe(rc::gen::arbitrary<std::uint64_t>()));
            row.desired = optional(*maybe(rc::gen::element<std::string>("ready", "drain", "maint")));
            row.in_step = optional(*maybe(rc::gen::arbitrary<bool>()));
            row.why = optional(*maybe(text));
        }

        const auto again = parse_json(render_json(rows));

        RC_ASSERT(again.has_value());
        RC_ASSERT(*again == rows);
    });
    CHECK(held);
}

TEST_CASE("slot map: an answer of another version is read, with more keys or fewer", "[slot_map]") {
    const auto rows = parse_json("[{" + least + R"(,"since":"2031-01-01","tags":{"a":1}}])");

    REQUIRE(rows.has_value());
    CHECK(rows->at(0).backend == "b");
    CHECK_FALSE(rows->at(0).member);
    CHECK_FALSE(rows->at(0).in_step);
}

TEST_CASE("slot map: an answer that is not a slot map is refused as a whole, with the reason", "[slot_map]") {
    const std::string first = "{" + least + "},";
    const auto [name, text, error] = GENERATE_COPY(table<std::string, std::string, std::string>({
        {"nothing", "", "the slot map is not a JSON array of slots"},
        {"HTML", "<html>502 Bad Gateway</html>", "the slot map is not a JSON array of slots"},
        {"an object", "{}", "the slot map is not a JSON array of slots"},
        {"cut off", "[{" + least, "the slot map is not a JSON array of slots"},
        {"more behind it", "[] []", "the slot map is not a JSON array of slots"},
        {"a NUL, and more behind it", std::string("[]\0 []", 6), "the slot map is not a JSON array of slots"},
        {"not UTF-8", "[\"\xff\"]", "the slot map is not a JSON array of slots"},
        {"a number that overflows", "[1e999]", "the slot map is not a JSON array of slots"},
        {"nested too deeply", std::string(1000000, '['), "the slot map is not a JSON array of slots"},
        {"too large", std::string((std::size_t{4} << 20) + 1, ' '), "the slot map is larger than 4 MiB"},
        {"a number for a slot", "[" + first + "7]", "slot 2 of the slot map is not a JSON object"},
        {"no backend", R"([{"slot":"s"}])", "slot 1 of the slot map: 'backend' is not there"},
        {"null for a slot's name", R"([{"backend":"b","slot":null}])", "slot 1 of the slot map: 'slot' is not there"},
        {"a number for a backend", R"([{"backend":1}])", "slot 1 of the slot map: 'backend' is not text"},
        {"an unknown state", R"([{"backend":"b","slot":"s","state":"UP"}])",
         "slot 1 of the slot map: 'state' is not a word known here"},
        {"a weight of 257", R"([{"backend":"b","slot":"s","state":"maint","operational":"up","weight":257}])",
         "slot 1 of the slot map: 'weight' is not a number of 0 to 256"},
        {"a member that is a list", "[{" + least + R"(,"member":["a"]}])",
         "slot 1 of the slot map: 'member' is not text"},
        {"port 0", "[{" + least + R"(,"port":0}])", "slot 1 of the slot map: 'port' is not a number of 1 to 65535"},
        {"port 65536", "[{" + least + R"(,"port":65536}])",
         "slot 1 of the slot map: 'port' is not a number of 1 to 65535"},
        {"a port with a fraction", "[{" + least + R"(,"port":5432.5}])",
         "slot 1 of the slot map: 'port' is not a number of 1 to 65535"},
        {"sessions below 0", "[{" + least + R"(,"sessions":-1}])",
         "slot 1 of the slot map: 'sessions' is not a number of 0 to 18446744073709551615"},
        {"an unknown desire", "[{" + least + R"(,"desired":"up"}])",
         "slot 1 of the slot map: 'desired' is not a word known here"},
        {"a word for in_step", "[{" + least + R"(,"in_step":"yes"}])",
         "slot 1 of the slot map: 'in_step' is not true or false"},
    }));
    CAPTURE(name);
    CHECK(error_of(text) == error);
}

TEST_CASE("slot map: an answer with random damage is read or refused, and its table is safe to print", "[slot_map]") {
    const std::string whole = render_json(std::vector{used("b", "pg1", "größe", "10.0.0.1"), unused("b", "pg2")});
    const bool held = rc::check([&whole] {
        std::string text = whole;
        const auto changes = *rc::gen::inRange(0, 4);
        for (int i = 0; i < changes; ++i) {
            const auto at = *rc::gen::inRange<std::size_t>(0, text.size());
            const std::string piece = *rc::gen::element<std::string>("\"", "\\u001b", "\\ud800", "null", "-", "[", "}",
                                                                     ",", "1e9", "\xff", "\x1b", "x");
            text.replace(at, *rc::gen::inRange<std::size_t>(0, 4), piece);
        }

        const auto rows = parse_json(text);

        const std::string shown = rows.has_value() ? render_table(*rows) : rows.error();
        RC_ASSERT(std::none_of(shown.begin(), shown.end(), [](char c) { return c >= 0 && c < ' ' && c != '\n'; }));
    });
    CHECK(held);
}
