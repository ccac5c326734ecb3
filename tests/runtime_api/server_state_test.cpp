#include "answers.hpp"
#include "printers.hpp"
#include "runtime_api/server_state.hpp"

#include <catch2/catch.hpp>
#include <rapidcheck.h>

#include <map>
#include <string>
#include <vector>

using namespace pointsman::runtime_api;
using namespace pointsman::test;

namespace {

const std::string two_rows = "4 pg 1 pg1 127.0.0.1 0 5 1 1 0 1 0 0 14 0 0 0 slot.invalid 1 - 0 8008 - - 8008\n"
                             "4 pg 2 pg2 fd00::2 2 4 100 50 17 15 3 3 6 0 0 0 slot.invalid 5432 - 0 8008 - - 8008\n";

// One row with some of its columns replaced.
std::string row(std::string_view address, std::string_view operational, std::string_view admin, std::string_view weight,
                std::string_view since, std::string_view check, std::string_view port) {
    std::string text = "4 pg 1 pg1 ";
    for (const auto part : {address, operational, admin, weight, std::string_view("1"), since,
                            std::string_view("1 0 0"), check, std::string_view("0 0 0 -"), port})
        text += std::string(part) + ' ';
    return text + "- 0 8008 - - 8008\n";
}

std::vector<slot> parsed(std::string_view rows) {
    const auto slots = parse_servers_state(servers_state(rows));
    if (!slots)
        FAIL(slots.error().detail);
    return *slots;
}

} // namespace

TEST_CASE("servers state: a row says what a slot is", "[server_state]") {
    const auto slots = parsed(two_rows);

    REQUIRE(slots.size() == 2);
    CHECK(slots[0] == slot{*slot_id::parse("pg", "pg1"), address::parse("127.0.0.1", 1), admin_state::maint,
                           operational_state::down, 1, 1, std::chrono::seconds(0), true, true});
    CHECK(slots[1] == slot{*slot_id::parse("pg", "pg2"), address::parse("fd00::2", 5432), admin_state::ready,
                           operational_state::up, 100, 50, std::chrono::seconds(17), true, true});
    CHECK(to_string(slots[1].id) == "pg/pg2");
}

TEST_CASE("servers state: a HAProxy without servers has no slots", "[server_state]") {
    CHECK(parsed("").empty());
}

TEST_CASE("servers state: the server that holds connections is no slot", "[server_state]") {
    const auto slots = parsed("4 pg 9 hold 127.0.0.1 2 0 1 1 17 1 0 0 0 0 0 0 - 1 - 0 0 - - 0\n" + two_rows);

    REQUIRE(slots.size() == 2);
    CHECK(slots[0].id.server() == "pg1");
}

TEST_CASE("declarations: how a slot was declared is read from its row", "[server_state]") {
    const auto declared =
        parse_declarations(servers_state("4 pg 9 hold 127.0.0.1 2 0 1 1 17 1 0 0 0 0 0 0 - 1 - 0 0 - - 0\n" + two_rows +
                                         // As 2.6.12 shows `init-addr none`, and a literal address without check.
                                         "4 pg 3 pg3 - 0 37 1 1 1 1 0 0 14 0 0 0 slot.invalid 1 - 0 8008 - - 8008\n"
                                         "4 pg 4 pg4 127.0.0.1 2 0 1 1 1 1 0 2 0 0 0 0 - 1 - 0 0 127.0.0.9 - 0\n"));
    const auto id = [](const char* name) { return *slot_id::parse("pg", name); };

    REQUIRE(declared);
    CHECK(*declared == std::vector<declared_server>{{id("pg1"), true, true, true, true, 8008, false},
                                                    {id("pg2"), true, true, true, true, 8008, false},
                                                    {id("pg3"), false, true, true, true, 8008, false},
                                                    {id("pg4"), true, false, false, false, 0, true}});
    CHECK_FALSE(parse_declarations("1\n"));
    CHECK_FALSE(parse_declarations(servers_state("4 pg 1 pg1 - x 37 1 1 1 1 0 0 14 0 0 0 - 1 - 0 port - - 0\n")));
}

TEST_CASE("servers state: the admin bits make ready, drain or maint", "[server_state]") {
    struct entry {
        std::string_view name, bits;
        admin_state state;
    };
    const auto r = GENERATE(values<entry>({
        {"ready", "0", admin_state::ready},
        {"a slot that is disabled in the configuration shows 4 when it is enabled", "4", admin_state::ready},
        {"and 5 at the start", "5", admin_state::maint},
        {"and 12 when it is drained", "12", admin_state::drain},
        {"maint by command", "1", admin_state::maint},
        {"maint by the tracked server", "2", admin_state::maint},
        {"maint for want of a name's resolution, disabled in the configuration", "37", admin_state::maint},
        {"drained", "8", admin_state::drain},
        {"drained by the tracked server", "16", admin_state::drain},
        {"a name changed by command", "64", admin_state::ready},
        {"maint outweighs drain", "9", admin_state::maint},
    }));
    CAPTURE(r.name);

    CHECK(parsed(row("10.0.0.1", "0", r.bits, "1", "0", "14", "5432"))[0].admin == r.state);
}

TEST_CASE("servers state: the operational states and check bits are read", "[server_state]") {
    CHECK(parsed(row("10.0.0.1", "1", "4", "1", "0", "6", "5432"))[0].operational == operational_state::starting);
    CHECK(parsed(row("10.0.0.1", "3", "4", "1", "0", "6", "5432"))[0].operational == operational_state::stopping);

    const auto disabled = parsed(row("10.0.0.1", "2", "4", "1", "0", "2", "5432"))[0];
    CHECK(disabled.check_configured);
    CHECK_FALSE(disabled.check_enabled);
    const auto none = parsed(row("10.0.0.1", "2", "4", "1", "0", "8", "5432"))[0];
    CHECK_FALSE(none.check_configured);
    CHECK_FALSE(none.check_enabled);
}

TEST_CASE("servers state: an address that the agent would never set is none", "[server_state]") {
    struct entry {
        std::string_view name, address, port;
    };
    const auto r = GENERATE(values<entry>({
        {"unresolved or a unix socket", "-", "5432"},
        {"no port", "10.0.0.1", "0"},
        {"a mapped port, as 2.6.12 dumps `:-1`", "10.0.0.1", "4294967295"},
        {"the client's destination", "0.0.0.0", "5432"},
        {"the client's destination, v6", "::", "0"},
    }));
    CAPTURE(r.name);

    CHECK_FALSE(parsed(row(r.address, "2", "0", "1", "0", "6", r.port))[0].where);
}

TEST_CASE("servers state: a clock that was set back is no reason to fail", "[server_state]") {
    CHECK(parsed(row("10.0.0.1", "2", "0", "1", "-1", "6", "5432"))[0].since_change == std::chrono::seconds(0));
}

TEST_CASE("servers state: columns are found by name", "[server_state]") {
    const auto slots = parse_servers_state("1\n# new srv_port srv_check_state srv_time_since_last_change srv_iweight "
                                           "srv_uweight srv_admin_state srv_op_state srv_addr srv_name be_name\n"
                                           "x 5432 6 7 9 8 4 2 10.0.0.1 pg1 pg\n\n");

    REQUIRE(slots);
    CHECK((*slots)[0] == slot{*slot_id::parse("pg", "pg1"), address::parse("10.0.0.1", 5432), admin_state::ready,
                              operational_state::up, 8, 9, std::chrono::seconds(7), true, true});
}

TEST_CASE("servers state: one row that is not understood spoils the whole dump, with its reason", "[server_state]") {
    struct entry {
        std::string_view reason, row;
    };
    const auto r = GENERATE(values<entry>({
        {"24 columns instead of 25", "4 pg 1 pg1 10.0.0.1 0 5 1 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - -\n"},
        {"26 columns instead of 25", "4 pg 1 pg1 10.0.0.1 0 5 1 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - - 8008 x\n"},
        {"be_name or srv_name", "4 p;g 1 pg1 10.0.0.1 0 5 1 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - - 8008\n"},
        {"an empty column", "4 pg 1  10.0.0.1 0 5 1 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - - 8008\n"},
        {"an empty column", "4 pg 1 pg1 10.0.0.1 0 5 1 1 0 1 0 0 14 0 0 0  1 - 0 8008 - - 8008\n"},
        {"an empty column", " pg 1 pg1 10.0.0.1 0 5 1 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - - 8008\n"},
        {"an empty column", "4 pg 1 pg1 10.0.0.1 0 5 1 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - - \n"},
        {"a control character", "4 pg 1 pg1 10.0.0.1 0 5 1 1 0 1 0 0 14 0 0 0 slot\x1b[2J 1 - 0 8008 - - 8008\n"},
        {"a control character", "4 pg 1 pg1 10.0.0.1 0 5 1 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - - 8008\r\n"},
        {"a control character", "4 pg 1 pg1 10.0.0.1 0 5 1 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - \x7f 8008\n"},
        {"srv_addr", "4 pg 1 pg1 example.org 0 5 1 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - - 8008\n"},
        {"srv_op_state", "4 pg 1 pg1 10.0.0.1 4 5 1 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - - 8008\n"},
        {"srv_admin_state", "4 pg 1 pg1 10.0.0.1 0 0x5 1 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - - 8008\n"},
        {"srv_admin_state", "4 pg 1 pg1 10.0.0.1 0 -1 1 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - - 8008\n"},
        {"srv_uweight", "4 pg 1 pg1 10.0.0.1 0 5 257 1 0 1 0 0 14 0 0 0 - 1 - 0 8008 - - 8008\n"},
        {"srv_iweight", "4 pg 1 pg1 10.0.0.1 0 5 1 99999999999 0 1 0 0 14 0 0 0 - 1 - 0 8008 - - 8008\n"},
        {"srv_time_since_last_change", "4 pg 1 pg1 10.0.0.1 0 5 1 1 now 1 0 0 14 0 0 0 - 1 - 0 8008 - - 8008\n"},
        {"srv_check_state", "4 pg 1 pg1 10.0.0.1 0 5 1 1 0 1 0 0 - 0 0 0 - 1 - 0 8008 - - 8008\n"},
        {"srv_port", "4 pg 1 pg1 10.0.0.1 0 5 1 1 0 1 0 0 14 0 0 0 - 4294967296 - 0 8008 - - 8008\n"},
    }));
    CAPTURE(r.reason, r.row);

    const auto slots = parse_servers_state(servers_state(two_rows + std::string(r.row)));

    REQUIRE_FALSE(slots);
    CHECK(slots.error().kind == errc::malformed);
    CHECK(slots.error().detail.find(r.reason) != std::string::npos);
    CHECK(slots.error().detail.find(r.row.substr(0, 12)) != std::string::npos);
}

TEST_CASE("servers state: what is no dump of version 1 is malformed", "[server_state]") {
    const std::string text = GENERATE(values<std::string>({
        "",
        "\n",
        "\n\n",
        "1",
        "1\n",
        "1\n\n",
        "2\n# be_id be_name\n\n",
        "Permission denied\n\n",
        "1\nbe_id be_name\n\n",
        "1\n# be_id be_name srv_name\n\n",
        "1\n" + std::string(state_header) + " \n\n",
        "1\n" + std::string(state_header) + " a\tb\n\n",
        "Can't find backend.\n\n",
    }));
    CAPTURE(text);

    const auto slots = parse_servers_state(text);

    REQUIRE_FALSE(slots);
    CHECK(slots.error().kind == errc::malformed);
}

TEST_CASE("servers state: a dump that was cut gives whole rows or nothing", "[server_state]") {
    const auto whole = servers_state(two_rows);
    const auto all = *parse_servers_state(whole);
    for (std::size_t length = 0; length != whole.size(); ++length) {
        CAPTURE(length);
        const auto slots = parse_servers_state(whole.substr(0, length));
        if (slots)
            CHECK(std::equal(slots->begin(), slots->end(), all.begin()));
        CHECK(slots.has_value() == (length != 0 && whole[length - 1] == '\n' && length > 2));
    }
}

TEST_CASE("servers state: no text whatever breaks the parser", "[server_state]") {
    CHECK(rc::check("any text", [](const std::string& text) {
        (void)parse_servers_state(text);
        (void)parse_info(text);
        (void)parse_stat("# " + text + "\n\n");
        (void)parse_observation(text + "\n\n" + text + "\n\n");
    }));
    CHECK(rc::check("a dump with some bytes changed", [] {
        auto text = std::string(info_2_6) + servers_state(two_rows);
        for (int changes = *rc::gen::inRange(1, 6); changes != 0; --changes) {
            const auto at = *rc::gen::inRange<std::size_t>(0, text.size());
            text[at] = *rc::gen::element(' ', '\n', '-', '0', '9', 'a', ';', '\0', *rc::gen::arbitrary<char>());
        }
        const auto seen = parse_observation(text);
        if (seen) {
            for (const auto& s : seen->slots)
                RC_ASSERT(slot_id::parse(s.id.backend(), s.id.server()).has_value());
        }
    }));
}

TEST_CASE("slot id: a name of HAProxy's, and nothing that needs escaping", "[server_state]") {
    CHECK(slot_id::parse("a.b:c-d_E9", "pg-1"));
    const std::string name =
        GENERATE(values<std::string>({"", "a b", "a;b", "a/b", "a\nb", "a#b", "pg\\1", "pg\xc3\xa9"}));
    CAPTURE(name);
    CHECK_FALSE(slot_id::parse(name, "pg1"));
    CHECK_FALSE(slot_id::parse("pg", name));
}

TEST_CASE("show info: the process is known by pid and start", "[server_state]") {
    const auto info = parse_info(info_2_6);

    REQUIRE(info);
    CHECK(*info == process_info{"2.6.12-1+deb12u4", 2, 6, 4883, 1795387216, false});
}

TEST_CASE("show info: every version's spelling of itself is read", "[server_state]") {
    struct entry {
        std::string version;
        unsigned major, minor;
    };
    const auto r = GENERATE(values<entry>({
        {"2.4.0-6cbbecf", 2, 4},
        {"2.6.12-1+deb12u4", 2, 6},
        {"2.8.0-fdd8154", 2, 8},
        {"3.0.0-7a59afa", 3, 0},
        {"3.2.0-e134140", 3, 2},
        {"3.4.0", 3, 4},
        {"3.5-dev5-03bde20", 3, 5},
    }));
    CAPTURE(r.version);

    const auto info = parse_info("Name: HAProxy\nVersion: " + r.version + "\nPid: 7\nStopping: 1\n");

    REQUIRE(info);
    CHECK(*info == process_info{r.version, r.major, r.minor, 7, 0, true});
}

TEST_CASE("show info: what lacks version, pid or state is malformed", "[server_state]") {
    const std::string text = GENERATE(values<std::string>({
        "",
        "Permission denied\n",
        "Pid: 7\nStopping: 0\n",
        "Version: x.y\nPid: 7\nStopping: 0\n",
        "Version: 2.6.12\nStopping: 0\n",
        "Version: 2.6.12\nPid: 7x\nStopping: 0\n",
        "Version: 2.6.12\nPid: 7\n",
    }));
    CAPTURE(text);

    const auto info = parse_info(text);

    REQUIRE_FALSE(info);
    CHECK(info.error().kind == errc::malformed);
}

TEST_CASE("observation: both dumps in one answer, the text of the second kept", "[server_state]") {
    const auto seen = parse_observation(std::string(info_2_6) + servers_state(two_rows));

    REQUIRE(seen);
    CHECK(seen->process.pid == 4883);
    CHECK(seen->slots.size() == 2);
    CHECK(seen->dump == servers_state(two_rows));
}

TEST_CASE("observation: an answer that was cut anywhere is a failure", "[server_state]") {
    const auto whole = std::string(info_2_6) + servers_state(two_rows);
    for (std::size_t length = 0; length != whole.size(); ++length) {
        CAPTURE(length);
        const auto seen = parse_observation(whole.substr(0, length));
        REQUIRE_FALSE(seen);
        CHECK(seen.error().kind == errc::malformed);
    }
}

TEST_CASE("observation: an old worker's slots are not looked at", "[server_state]") {
    const auto seen = parse_observation("Name: HAProxy\nVersion: 2.6.12\nPid: 7\nStopping: 1\n\n1\n");

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::stopping);
    CHECK(seen.error().detail == "process 7 is an old worker that is stopping");
}

TEST_CASE("show stat: servers only, found by column name", "[server_state]") {
    const auto servers = parse_stat("# pxname,svname,qcur,scur,status,type,last_chk,\n"
                                    "pg,FRONTEND,,3,OPEN,0,,\n"
                                    "pg,pg1,0,12,UP 1/3,2,\"said \"\"no\"\", then\nleft\",\n"
                                    "pg,pg2,0,0,MAINT (via pg/pg1),2,,\n"
                                    "pg,sock-1,,1,OPEN,3,,\n"
                                    "pg,BACKEND,0,12,UP,1,,\n\n");

    REQUIRE(servers);
    REQUIRE(servers->size() == 2);
    CHECK((*servers)[0].backend == "pg");
    CHECK((*servers)[0].server == "pg1");
    CHECK((*servers)[0].status == "UP 1/3");
    CHECK((*servers)[0].sessions == 12);
    CHECK((*servers)[1].status == "MAINT (via pg/pg1)");
}

TEST_CASE("show stat: backends with their balance and their hold", "[server_state]") {
    const auto backends = parse_backends("# pxname,svname,bck,slim,mode,algo,type,\n"
                                         "primary,FRONTEND,,9970,tcp,,0,\n"
                                         "primary,hold,1,2000000,tcp,,2,\n"
                                         "primary,pg1,0,,tcp,,2,\n"
                                         "primary,BACKEND,1,997,tcp,roundrobin,1,\n"
                                         "web,hold,0,,http,,2,\n"
                                         "web,BACKEND,0,1,http,,1,\n\n");

    REQUIRE(backends);
    CHECK(*backends == std::map<std::string, backend_statistics>{{"primary", {"tcp", "roundrobin", {{true, 2000000}}}},
                                                                 {"web", {"http", "", {{false, 0}}}}});
    CHECK_FALSE(parse_backends("# pxname,svname,type,\n\n"));
}

TEST_CASE("show stat: half a dump, or another one, is malformed", "[server_state]") {
    const std::string whole = "# pxname,svname,scur,status,type,\npg,pg1,12,UP,2,\npg,pg2,0,DOWN,2,\n\n";
    REQUIRE(parse_stat(whole));
    for (std::size_t length = 0; length != whole.size(); ++length) {
        CAPTURE(length);
        CHECK_FALSE(parse_stat(whole.substr(0, length)));
    }
    const std::string other = GENERATE(values<std::string>({
        "Permission denied\n\n",
        "# pxname,svname,scur,status,\npg,pg1,12,UP,\n\n",
        "# pxname,svname,scur,status,type,\npg,pg1,12,UP,\n\n",
        "# pxname,svname,scur,status,type,\npg,pg1,many,UP,2,\n\n",
        "# pxname,svname,scur,status,type,\npg,\"pg1,12,UP,2,\n\n",
    }));
    CAPTURE(other);
    CHECK_FALSE(parse_stat(other));
}
