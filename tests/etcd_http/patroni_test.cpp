#include "etcd_http/patroni.hpp"

#include <catch2/catch.hpp>
#include <rapidcheck.h>

using namespace pointsman::etcd_http;

namespace {

constexpr const char* prefix = "/service/demo/";

cluster_view view_of(const std::map<std::string, std::string>& values) {
    std::map<std::string, key_value> keys;
    std::int64_t revision = 100;
    for (const auto& [name, value] : values)
        keys[prefix + name] = {value, ++revision};
    return parse_cluster(keys, prefix, 200);
}

cluster_view view_of_member(const std::string& value) {
    return view_of({{"members/pg1", value}});
}

std::string conn_url(const std::string& url) {
    return R"({"conn_url":")" + url + R"("})";
}

std::vector<std::string> reasons(const cluster_view& view) {
    std::vector<std::string> texts;
    for (const refusal& one : view.refusals)
        texts.push_back(one.reason);
    return texts;
}

} // namespace

TEST_CASE("patroni: a cluster as Patroni 3.0.2 writes it", "[patroni]") {
    const auto view = view_of({
        {"config", R"({"ttl":30})"},
        {"history", "[]"},
        {"initialize", "7711091977676676585"},
        {"leader", "pg1"},
        {"members/pg1",
         R"({"conn_url":"postgres://127.0.10.1:5432/postgres","api_url":"http://127.0.10.1:8008/patroni",)"
         R"("state":"running","role":"master","version":"3.0.2","xlog_location":170256744,"timeline":21})"},
        {"status", R"({"optime":150998168,"slots":{"s1":123}})"},
    });
    CHECK(view.revision == 200);
    REQUIRE(view.leader);
    CHECK(view.leader->name == "pg1");
    CHECK(view.leader->term == 104);
    CHECK(view.optime == 150998168u);
    REQUIRE(view.members.size() == 1);
    CHECK(view.members.at("pg1") == member_record{"pg1", host_port{"127.0.10.1", 5432}, std::nullopt,
                                                  rest_url{false, {"127.0.10.1", 8008}}, "running", "master"});
    CHECK(view.refusals.empty());
}

TEST_CASE("patroni: an odd member of Patroni 4.1.4, with IPv6, https, proxy_url and a name of its own", "[patroni]") {
    const std::string name = "n 1;\xc3\xa9%\"x";
    const auto view =
        view_of({{"members/" + name,
                  R"({"conn_url":"postgres://[fd00::1]:6543/postgres","api_url":"https://DB-1.example.org/patroni",)"
                  R"("state":"stopped","role":"primary","proxy_url":"postgres://proxy.example.org:6432/postgres",)"
                  R"("tags":{"nofailover":true,"region":"eu"}})"}});
    REQUIRE(view.members.size() == 1);
    CHECK(view.members.at(name) == member_record{name, host_port{"fd00::1", 6543}, host_port{"proxy.example.org", 6432},
                                                 rest_url{true, {"DB-1.example.org", 443}}, "stopped", "primary"});
    CHECK(view.refusals.empty());
}

TEST_CASE("patroni: forms of conn_url", "[patroni]") {
    using row = std::tuple<std::string, std::string, std::uint16_t>;
    auto [url, host, port] = GENERATE(table<std::string, std::string, std::uint16_t>({
        row{"postgres://10.0.0.1:5433/postgres", "10.0.0.1", 5433},
        row{"postgresql://10.0.0.1:5433/postgres", "10.0.0.1", 5433},
        row{"postgres://pg1", "pg1", 5432},
        row{"postgres://pg1/", "pg1", 5432},
        row{"postgres://pg1:/postgres", "pg1", 5432},
        row{"postgres://pg_1.db-2.example.org:1/x", "pg_1.db-2.example.org", 1},
        row{"postgres://[fd00::1]/x", "fd00::1", 5432},
        row{"postgres://[::ffff:10.0.0.1]:65535", "::ffff:10.0.0.1", 65535},
        row{"postgres://user:p%40w@pg1:5433/x", "pg1", 5433},
        row{"postgres://user:p@w:1@pg1:5433/x", "pg1", 5433},
        row{"postgres://pg1:5433/x?application_name=http://pg9:8008/patroni", "pg1", 5433},
        row{"postgres://pg1?host=other", "pg1", 5432},
        row{"postgres://h1,h2:5433/x", "h1", 5432},
        row{"postgres://h1:5433,h2:5434/x", "h1", 5433},
        row{"postgres://bad host,h2:5434/x", "h2", 5434},
        row{"postgres://,[fd00::2]:1,h3/x", "fd00::2", 1},
    }));
    CAPTURE(url);
    const auto view = view_of_member(conn_url(url));
    CHECK(view.members.at("pg1").connect == host_port{host, port});
    CHECK(view.refusals.empty());
}

TEST_CASE("patroni: forms of api_url", "[patroni]") {
    using row = std::tuple<std::string, bool, std::string, std::uint16_t>;
    auto [url, tls, host, port] = GENERATE(table<std::string, bool, std::string, std::uint16_t>({
        row{"http://10.0.0.1:8008/patroni", false, "10.0.0.1", 8008},
        row{"http://pg1/patroni", false, "pg1", 80},
        row{"https://pg1/patroni", true, "pg1", 443},
        row{"https://[fd00::1]:8443", true, "fd00::1", 8443},
        row{"http://user:pw@pg1:8008", false, "pg1", 8008},
    }));
    CAPTURE(url);
    const auto view = view_of_member(R"({"api_url":")" + url + R"("})");
    CHECK(view.members.at("pg1").rest == rest_url{tls, {host, port}});
    CHECK(view.refusals.empty());
}

TEST_CASE("patroni: Governor's connection string is read as Patroni reads it", "[patroni]") {
    const auto view = view_of_member(
        "postgres://rep:secret@10.0.0.1:5433/postgres?x=1&application_name=http://10.0.0.2:8008/patroni");
    CHECK(view.members.at("pg1").connect == host_port{"10.0.0.1", 5433});
    CHECK(view.members.at("pg1").rest == rest_url{false, {"10.0.0.2", 8008}});

    const auto escaped =
        view_of_member("postgres://10.0.0.1/postgres?application_name=http%3A%2F%2F10.0.0.2%3A8008%2F");
    CHECK(escaped.members.at("pg1").rest == rest_url{false, {"10.0.0.2", 8008}});

    const auto bare = view_of_member("postgres://10.0.0.1/postgres");
    CHECK(bare.members.at("pg1").connect == host_port{"10.0.0.1", 5432});
    CHECK_FALSE(bare.members.at("pg1").rest);

    const auto broken = view_of_member("postgres://10.0.0.1/postgres?application_name=%zz");
    CHECK(broken.members.at("pg1").connect == host_port{"10.0.0.1", 5432});
    CHECK_FALSE(broken.members.at("pg1").rest);
}

TEST_CASE("patroni: an address that cannot be used is refused with its reason, the member stays", "[patroni]") {
    auto [url, reason] = GENERATE(table<std::string, std::string>({
        {"postgres://pg1:0/x", "port 0 is not in 1 to 65535"},
        {"postgres://pg1:70000/x", "port 70000 is not in 1 to 65535"},
        {"postgres://pg1:99999999999999999999999/x", "port 99999999999999999999999 is not in 1 to 65535"},
        {"postgres://pg1:5432x/x", "port '5432x' is not a number"},
        {"postgres://pg1:-1/x", "port '-1' is not a number"},
        {"postgres://pg1:+5432/x", "port '+5432' is not a number"},
        {"postgres://pg1: 5432/x", "port ' 5432' is not a number"},
        {"postgres://pg1;shutdown/x", "host 'pg1;shutdown' has characters that no host has"},
        {R"(postgres://pg1\nset server/x)", R"(host 'pg1\nset server' has characters that no host has)"},
        {"postgres://pg 1/x", "host 'pg 1' has characters that no host has"},
        {"postgres://%2Fvar%2Frun/x", "host '%2Fvar%2Frun' has characters that no host has"},
        {R"(postgres://p\u00e9/x)", "host 'p\xc3\xa9' has characters that no host has"},
        {R"(postgres://p\u0000g/x)", R"(host 'p\x00g' has characters that no host has)"},
        {"postgres:///x", "no host"},
        {"postgres://user:pw@/x", "no host"},
        {"postgres://:5432/x", "no host"},
        {"postgres://", "no host"},
        {"postgres://[fd00::1/x", "'[fd00::1' is not an IPv6 address in brackets"},
        {"postgres://[fd00::1]5432/x", "'[fd00::1]5432' is not an IPv6 address in brackets"},
        {"postgres://[fd00::1%25eth0]/x", "'[fd00::1%25eth0]' is not an IPv6 address in brackets"},
        {"postgres://[10.0.0.1]/x", "'[10.0.0.1]' is not an IPv6 address in brackets"},
        {"postgres://[]/x", "'[]' is not an IPv6 address in brackets"},
        {"postgres://fd00::1/x", "port ':1' is not a number"},
        {"postgres://0.0.0.0:5432/x", "host 0.0.0.0 is no address to connect to"},
        {"postgres://[::]:5432/x", "host :: is no address to connect to"},
        {"postgres://[0:0::]:5432/x", "host 0:0:: is no address to connect to"},
        {"postgres://[::ffff:0.0.0.0]:5432/x", "host ::ffff:0.0.0.0 is no address to connect to"},
        {"postgres://[::FFFF:0:0]/x", "host ::FFFF:0:0 is no address to connect to"},
        {"postgres://" + std::string(254, 'a'), "a host of 254 bytes is longer than 253"},
        {"postgres://h 1,h 2", "host 'h 1' has characters that no host has"},
        {"mysql://u:secret@pg1/x", "not a postgres:// URL"},
        {"pg1:5432", "not a postgres:// URL"},
        {"", "not a postgres:// URL"},
    }));
    CAPTURE(url);
    const auto view = view_of_member(conn_url(url));
    REQUIRE(view.members.count("pg1") == 1);
    CHECK_FALSE(view.members.at("pg1").connect);
    REQUIRE(view.refusals.size() == 1);
    CHECK(view.refusals[0] == refusal{"pg1", "conn_url: " + reason});
}

TEST_CASE("patroni: a member whose value cannot be used stays, with nothing known of it", "[patroni]") {
    auto [value, reason] = GENERATE(table<std::string, std::string>({
        {"", "value: not a JSON object"},
        {"{", "value: not a JSON object"},
        {"[]", "value: not a JSON object"},
        {"null", "value: not a JSON object"},
        {std::string("{}\0{", 4), "value: not a JSON object"},
        {"\xff\xfe", "value: not a JSON object"},
        {"{\"state\":\"\xff\"}", "value: not a JSON object"},
        {std::string(60000, '['), "value: not a JSON object"},
        {std::string(10 << 20, 'x'), "value: 10485760 bytes are more than 65536"},
        {"postgres://" + std::string(10 << 20, 'x'), "value: 10485771 bytes are more than 65536"},
    }));
    CAPTURE(reason);
    const auto view = view_of_member(value);
    REQUIRE(view.members.count("pg1") == 1);
    CHECK(view.members.at("pg1") == member_record{"pg1", {}, {}, {}, "", ""});
    REQUIRE(view.refusals.size() == 1);
    CHECK(view.refusals[0] == refusal{"pg1", reason});
}

TEST_CASE("patroni: a field of a wrong type is as good as absent, and told", "[patroni]") {
    const auto view = view_of_member(
        R"({"conn_url":["postgres://a"],"proxy_url":null,"api_url":5,"state":{"a":1},"role":true,"tags":"x"})");
    CHECK(view.members.at("pg1") == member_record{"pg1", {}, {}, {}, "", ""});
    CHECK(reasons(view) == std::vector<std::string>{"conn_url: not a string", "proxy_url: not a string",
                                                    "api_url: not a string", "state: not a string",
                                                    "role: not a string"});
}

TEST_CASE("patroni: missing fields are nothing to tell", "[patroni]") {
    const auto view = view_of_member("{}");
    CHECK(view.members.count("pg1") == 1);
    CHECK(view.refusals.empty());
}

TEST_CASE("patroni: one broken member does not hurt the others", "[patroni]") {
    const auto view = view_of({{"members/pg1", "{"}, {"members/pg2", conn_url("postgres://10.0.0.2")}});
    CHECK(view.members.at("pg2").connect == host_port{"10.0.0.2", 5432});
}

TEST_CASE("patroni: a member's name that Patroni would not use is refused", "[patroni]") {
    auto [name, shown, fault] = GENERATE(table<std::string, std::string, std::string>({
        {"a/b", "a/b", "members: a name with a slash, which Patroni itself ignores"},
        {"", "", "members: the name is empty"},
        {"\xc3", "\\xc3", "members: the name is not UTF-8"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80", "members: the name is not UTF-8"},
        {std::string(256, 'n'), std::string(77, 'n') + "...", "members: the name is longer than 255 bytes"},
    }));
    CAPTURE(shown);
    const auto view = view_of({{"members/" + name, conn_url("postgres://10.0.0.1")}});
    CHECK(view.members.empty());
    REQUIRE(view.refusals.size() == 1);
    CHECK(view.refusals[0] == refusal{shown, fault});
}

TEST_CASE("patroni: the leader key names the leader and its term", "[patroni]") {
    CHECK_FALSE(view_of({}).leader);
    CHECK(view_of({{"leader", "pg 2;"}}).leader == leader_record{"pg 2;", 101});
    for (const std::string& value : {std::string(), std::string("\xff"), std::string(10 << 20, 'x')}) {
        const auto view = view_of({{"leader", value}});
        CHECK_FALSE(view.leader);
        CHECK(view.refusals.size() == 1);
    }
}

TEST_CASE("patroni: the WAL position stands in `status`, before 2.1.0 in `optime/leader`", "[patroni]") {
    CHECK(view_of({{"optime/leader", "150998168"}}).optime == 150998168u);
    CHECK(view_of({{"optime/leader", "1"}, {"status", R"({"optime":2})"}}).optime == 2u);
    CHECK(view_of({{"optime/leader", "1"}, {"status", "{}"}}).optime == 1u);
    CHECK_FALSE(view_of({{"status", "{}"}}).optime);
    for (const char* status : {"{", "7", R"({"optime":"5"})", R"({"optime":-5})", R"({"optime":1.5})"}) {
        const auto view = view_of({{"status", status}});
        CHECK_FALSE(view.optime);
        CHECK(view.refusals.size() == 1);
    }
    for (const char* optime : {"", "5x", "-5", "99999999999999999999999"}) {
        const auto view = view_of({{"optime/leader", optime}});
        CHECK_FALSE(view.optime);
        CHECK(view.refusals.size() == 1);
    }
}

TEST_CASE("patroni: the failover key asks for a switchover where it names the leader that is to go", "[patroni]") {
    using namespace std::chrono;
    constexpr auto at = sys_days(2026y / November / 22) + 21h + 5min + 9s;
    const auto asked = [](const std::string& value) { return view_of({{"failover", value}}).switchover; };

    CHECK(asked(R"({"leader":"pg3","member":"pg1"})") == switchover_record{"pg3", std::nullopt, 101});
    for (const char* time : {"2026-11-22T21:05:09+00:00", "2026-11-22T21:05:09Z", "2026-11-22 23:05:09.000456+02:00",
                             "2026-11-22T16:35:09-0430"}) {
        CAPTURE(time);
        CHECK(asked(R"({"leader":"pg3","scheduled_at":")" + std::string(time) + R"("})") ==
              switchover_record{"pg3", at, 101});
    }
    for (const auto& [fraction, ms] : {std::pair(".7", 700ms), std::pair(".708249", 708ms), std::pair(".05", 50ms)}) {
        CAPTURE(fraction);
        CHECK(asked(R"({"leader":"pg3","scheduled_at":"2026-11-22T21:05:09)" + std::string(fraction) + R"(Z"})") ==
              switchover_record{"pg3", at + ms, 101});
    }
    CHECK_FALSE(asked("{}"));                  // done
    CHECK_FALSE(asked(R"({"member":"pg1"})")); // a failover: there is no leader to leave
}

TEST_CASE("patroni: a failover key that cannot be read asks for nothing, and is told", "[patroni]") {
    const std::string value = GENERATE(as<std::string>(), "pg3:pg1", "{", R"({"leader":7})", R"({"leader":""})",
                                       R"({"leader":"a","scheduled_at":5})", R"({"leader":"a","scheduled_at":"soon"})",
                                       R"({"leader":"a","scheduled_at":"2026-11-22T21:05:09"})",
                                       R"({"leader":"a","scheduled_at":"2026-02-30T21:05:09Z"})",
                                       R"({"leader":"a","scheduled_at":"2026-11-22T24:05:09Z"})",
                                       R"({"leader":"a","scheduled_at":"2026-11-22T21:05:09+02:00x"})",
                                       R"({"leader":"a","scheduled_at":"-026-11-22T21:05:09Z"})");
    CAPTURE(value);
    const auto view = view_of({{"failover", value}});
    CHECK_FALSE(view.switchover);
    CHECK(view.refusals.size() == 1);
}

TEST_CASE("patroni: keys of Citus groups, of other scopes and of other kinds are not this cluster's", "[patroni]") {
    auto view = view_of({{"0/leader", "x"}, {"0/members/x", "{"}, {"history", "{"}, {"sync", "{"}, {"membersx", "{"}});
    cluster_view nothing;
    nothing.revision = 200;
    CHECK(view == nothing);

    view = parse_cluster({{"/service/demo2/leader", {"x", 1}}, {"/x", {"y", 1}}}, prefix, 200);
    CHECK_FALSE(view.leader);
}

TEST_CASE("patroni: no value whatever makes it throw, and every refusal is printable", "[patroni]") {
    CHECK(rc::check([] {
        const auto text = rc::gen::oneOf(
            rc::gen::arbitrary<std::string>(),
            rc::gen::container<std::string>(rc::gen::elementOf(std::string("postgres://[]:,@?%1a\n\"{}\xff"))),
            rc::gen::map(rc::gen::arbitrary<std::string>(), [](std::string s) { return "postgres://" + s; }));
        const auto view = view_of({{"members/" + *text, *text}, {"leader", *text}, {"status", *text}});
        for (const refusal& one : view.refusals) {
            for (const char c : one.member + one.reason)
                RC_ASSERT(static_cast<unsigned char>(c) >= ' ');
        }
    }));
}

TEST_CASE("printable: what could break a log line is escaped", "[patroni]") {
    auto [text, shown] = GENERATE(table<std::string, std::string>({
        {"pg-1", "pg-1"},
        {"p\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x98", "p\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x98"},
        {"a\nb\t\x1b[31m\x7f", "a\\nb\\x09\\x1b[31m\\x7f"},
        {std::string("a\0b", 3), "a\\x00b"},
        {"\"'\\", "\\\"\\'\\\\"},
        {"\xff\xc3", "\\xff\\xc3"},
        {"\xc0\x80", "\\xc0\\x80"},                   // overlong
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, // beyond U+10FFFF
        {"\xc2\x85", "\\xc2\\x85"},                   // next line
        {"\xe2\x80\xae"
         "x",
         "\\xe2\\x80\\xaex"},                // right-to-left override
        {"\xe2\x80\xa8", "\\xe2\\x80\\xa8"}, // line separator
        {"\xe2\x81\xa6", "\\xe2\\x81\\xa6"}, // isolate
    }));
    CHECK(printable(text) == shown);
}

TEST_CASE("printable: a long text is cut, never inside a character or an escape", "[patroni]") {
    CHECK(printable("12345678", 8) == "12345678");
    CHECK(printable("123456789", 8) == "12345...");
    CHECK(printable("1234\xc3\xa9"
                    "6789",
                    8) == "1234...");
    CHECK(printable("1234\n6789", 8) == "1234...");
    CHECK(printable("abc", 2) == "..");
    CHECK(printable("abc", 0).empty());
}

TEST_CASE("printable: never longer than its limit and never with a control character", "[patroni]") {
    CHECK(rc::check([](const std::string& text) {
        const auto limit = *rc::gen::inRange<std::size_t>(0, 100);
        const std::string shown = printable(text, limit);
        RC_ASSERT(shown.size() <= limit);
        for (const char c : shown)
            RC_ASSERT(static_cast<unsigned char>(c) >= ' ' && c != '\x7f');
    }));
}
