#include "etcd_http/codec.hpp"

#include "printers.hpp"

#include <catch2/catch.hpp>
#include <rapidcheck.h>

using namespace pointsman::etcd_http;

namespace {

// The replies are those of etcd 3.4.23, shortened (facts 5.2, 5.3).
std::string range_body(const std::string& rest) {
    return R"({"header":{"cluster_id":"3612739523627447269","member_id":"9905921219297894488","revision":"6",)"
           R"("raft_term":"2"})" +
           rest + "}";
}

std::vector<std::string> lines_of(line_splitter& splitter) {
    std::vector<std::string> lines;
    while (const auto line = splitter.next())
        lines.emplace_back(*line);
    return lines;
}

} // namespace

TEST_CASE("base64: texts of every length have the standard padded form", "[codec]") {
    // RFC 4648, section 10, and the two digits in which the URL-safe alphabet differs
    auto [plain, encoded] = GENERATE(table<std::string, std::string>({{"", ""},
                                                                      {"f", "Zg=="},
                                                                      {"fo", "Zm8="},
                                                                      {"foo", "Zm9v"},
                                                                      {"foob", "Zm9vYg=="},
                                                                      {"fooba", "Zm9vYmE="},
                                                                      {"foobar", "Zm9vYmFy"},
                                                                      {"\xfb\xff", "+/8="}}));
    CAPTURE(plain);
    CHECK(base64_encode(plain) == encoded);
    CHECK(base64_decode(encoded) == plain);
}

TEST_CASE("base64: what is not standard, padded and canonical is refused", "[codec]") {
    auto [fault, text] = GENERATE(table<std::string, std::string>({{"no padding", "L3NlcnY"},
                                                                   {"URL-safe", "-_8="},
                                                                   {"padding alone", "===="},
                                                                   {"three pads", "A==="},
                                                                   {"padding inside", "Zg==Zg=="},
                                                                   {"pad in the middle", "Z=g="},
                                                                   {"line feed", "Zm9v\n"},
                                                                   {"space", "Zm 9"},
                                                                   {"bits after the end", "Zh=="},
                                                                   {"bits after the end of two", "Zm9="},
                                                                   {"not ASCII", "Zm9\xc3"}}));
    CAPTURE(fault);
    CHECK_FALSE(base64_decode(text));
}

TEST_CASE("base64: decoding gives back what was encoded", "[codec]") {
    CHECK(rc::check([](const std::string& bytes) { RC_ASSERT(base64_decode(base64_encode(bytes)) == bytes); }));
}

TEST_CASE("base64: what decodes at all encodes to the same text", "[codec]") {
    CHECK(rc::check([] {
        const auto text = *rc::gen::container<std::string>(rc::gen::elementOf(std::string("AZaz09+/=Q")));
        if (const auto bytes = base64_decode(text))
            RC_ASSERT(base64_encode(*bytes) == text);
    }));
}

TEST_CASE("prefix range: ends before the first key that does not begin with the prefix", "[codec]") {
    CHECK(prefix_end("/service/demo/") == "/service/demo0");
    CHECK(prefix_end("a\xff") == "b");
    CHECK(prefix_end("a\xff\xff") == "b");
    CHECK(prefix_end("\xff\xff") == std::string(1, '\0'));
    CHECK(prefix_end("") == std::string(1, '\0'));
}

TEST_CASE("prefix range: holds a key exactly when the key begins with the prefix", "[codec]") {
    CHECK(rc::check([] {
        const auto text = rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab/\xfe\xff")));
        const std::string prefix = *text;
        const std::string key =
            *rc::gen::oneOf(text, rc::gen::map(text, [prefix](std::string tail) { return prefix + tail; }));
        const std::string end = prefix_end(prefix);
        const bool in_range = key >= prefix && (end == std::string(1, '\0') || key < end);
        RC_ASSERT(in_range == key.starts_with(prefix));
    }));
}

TEST_CASE("requests: have the form that the gateway reads", "[codec]") {
    CHECK(range_request("/service/demo/") == R"({"key":"L3NlcnZpY2UvZGVtby8=","range_end":"L3NlcnZpY2UvZGVtbzA="})");
    CHECK(watch_request("/s/", 7) == R"({"create_request":{"key":"L3Mv","range_end":"L3Mw","start_revision":"7"}})");
    CHECK(authenticate_request("a\"b", "p\\w\n") == R"({"name":"a\"b","password":"p\\w\n"})");
}

TEST_CASE("requests: a password that is not UTF-8 makes a request all the same", "[codec]") {
    CHECK_FALSE(authenticate_request("agent", "\xff").empty());
}

TEST_CASE("range: keys, values and header are read", "[codec]") {
    const auto reply = parse_range(range_body(
        R"(,"kvs":[{"key":"L3MvYQ==","create_revision":"2","mod_revision":"5","version":"1","value":"djE=","lease":"69"},)"
        R"({"key":"L3MvYg==","create_revision":"3","mod_revision":3}],"count":"2")"));
    REQUIRE(reply);
    CHECK(reply->header.cluster_id == 3612739523627447269u);
    CHECK(reply->header.revision == 6);
    CHECK(reply->header.raft_term == 2);
    CHECK(reply->keys == std::map<std::string, key_value>{{"/s/a", {"v1", 5}}, {"/s/b", {"", 3}}});
}

TEST_CASE("range: no key is an answer, not an error", "[codec]") {
    const auto reply = parse_range(range_body(""));
    REQUIRE(reply);
    CHECK(reply->keys.empty());
}

TEST_CASE("range: spaces as protojson inserts them change nothing", "[codec]") {
    const auto reply =
        parse_range(R"({"header": {"cluster_id":"1",  "revision":"2"},  "kvs":[ {"key":"YQ==", "mod_revision":"2"} ],)"
                    R"(  "count":"1"})");
    REQUIRE(reply);
    CHECK(reply->keys.size() == 1);
}

TEST_CASE("range: what could pass for fewer keys than there are is refused as a whole", "[codec]") {
    auto [fault, body] = GENERATE(table<std::string, std::string>({
        {"not JSON", "404 page not found\n"},
        {"empty", ""},
        {"cut", R"({"header":{"cluster_id":"1","revision":"6"},"kvs":[)"},
        {"an array", "[]"},
        {"a NUL that hides what follows it", range_body("") + std::string("\0{", 2)},
        {"no header", R"({"kvs":[]})"},
        {"no revision", R"({"header":{"cluster_id":"1"}})"},
        {"no cluster", R"({"header":{"revision":"6"}})"},
        {"header of a wrong type", R"({"header":[1]})"},
        {"revision that is no number", R"({"header":{"cluster_id":"1","revision":"6x"}})"},
        {"revision out of range", R"({"header":{"cluster_id":"1","revision":"99999999999999999999"}})"},
        {"revision after which there is none", R"({"header":{"cluster_id":"1","revision":"9223372036854775807"}})"},
        {"negative revision", R"({"header":{"cluster_id":"1","revision":-6}})"},
        {"key of a revision after which there is none",
         range_body(R"(,"kvs":[{"key":"YQ==","mod_revision":"9223372036854775807"}],"count":"1")")},
        {"kvs of a wrong type", range_body(R"(,"kvs":{},"count":"1")")},
        {"key of a wrong type", range_body(R"(,"kvs":[{"key":7,"mod_revision":"2"}],"count":"1")")},
        {"key that is no base64", range_body(R"(,"kvs":[{"key":"?","mod_revision":"2"}],"count":"1")")},
        {"key missing", range_body(R"(,"kvs":[{"mod_revision":"2"}],"count":"1")")},
        {"key without revision", range_body(R"(,"kvs":[{"key":"YQ=="}],"count":"1")")},
        {"value that is no base64",
         range_body(R"(,"kvs":[{"key":"YQ==","value":"?","mod_revision":"2"}],"count":"1")")},
        {"element of a wrong type", range_body(R"(,"kvs":[null],"count":"1")")},
        {"more", range_body(R"(,"more":true,"kvs":[{"key":"YQ==","mod_revision":"2"}],"count":"1")")},
        {"count too high", range_body(R"(,"count":"1")")},
        {"one key twice", range_body(R"(,"kvs":[{"key":"YQ==","mod_revision":"2"},{"key":"YQ==","mod_revision":"2"}])"
                                     R"(,"count":"2")")},
    }));
    CAPTURE(fault);
    const auto reply = parse_range(body);
    REQUIRE_FALSE(reply);
    CHECK(reply.error().kind == errc::malformed);
    CHECK_FALSE(reply.error().detail.empty());
}

TEST_CASE("range: JSON nested without end is refused before it is built", "[codec]") {
    CHECK_FALSE(parse_range(std::string(4 << 20, '[')));
    CHECK_FALSE(parse_range(range_body(R"(,"x":)" + std::string(100, '[') + std::string(100, ']'))));
}

TEST_CASE("range: brackets in strings do not count as depth", "[codec]") {
    CHECK(parse_range(range_body(R"(,"x":"\")" + std::string(100, '[') + '"')));
}

TEST_CASE("watch: the answer to create", "[codec]") {
    const auto message = parse_watch(
        R"({"result":{"header":{"cluster_id":"36","member_id":"99","revision":"8","raft_term":"2"},"created":true}})");
    REQUIRE(message);
    CHECK(message->created);
    CHECK_FALSE(message->canceled);
    CHECK(message->header.revision == 8);
    CHECK(message->events.empty());
}

TEST_CASE("watch: an event without a type is a PUT", "[codec]") {
    const auto message =
        parse_watch(R"({"result":{"header":{"cluster_id":"36","revision":"9"},"events":[)"
                    R"({"kv":{"key":"L3MvYQ==","create_revision":"9","mod_revision":"9","value":"djE="}},)"
                    R"({"type":"DELETE","kv":{"key":"L3MvYg==","mod_revision":"9"},"prev_kv":{"key":"L3MvYg=="}}]}})");
    REQUIRE(message);
    REQUIRE(message->events.size() == 2);
    CHECK_FALSE(message->events[0].deleted);
    CHECK(message->events[0].key == "/s/a");
    CHECK(message->events[0].now == key_value{"v1", 9});
    CHECK(message->events[1].deleted);
    CHECK(message->events[1].key == "/s/b");
    CHECK(message->events[1].now == key_value{"", 9});
}

TEST_CASE("watch: a progress notification is a message without events", "[codec]") {
    for (const char* text : {R"({"result":{"header":{"cluster_id":"36","revision":"3"}}})",
                             R"({"result":{"header":{"cluster_id":"36"},"watch_id":"-1"}})"}) {
        const auto message = parse_watch(text);
        REQUIRE(message);
        CHECK_FALSE(message->created);
        CHECK_FALSE(message->canceled);
        CHECK(message->events.empty());
    }
}

TEST_CASE("watch: a cancellation says why", "[codec]") {
    using row = std::tuple<std::string, errc>;
    auto [fields, kind] = GENERATE(table<std::string, errc>({
        row{R"("canceled":true,"compact_revision":"5")", errc::compacted},
        row{R"("canceled":true,"compact_revision":"5","cancel_reason":"mvcc: required revision has been compacted")",
            errc::compacted},
        row{R"("watch_id":"-1","created":true,"canceled":true,)"
            R"("cancel_reason":"rpc error: code = InvalidArgument desc = etcdserver: user name is empty")",
            errc::unauthorised},
        row{R"("created":true,"canceled":true,)"
            R"("cancel_reason":"rpc error: code = Unauthenticated desc = etcdserver: invalid auth token")",
            errc::unauthorised},
        row{R"("created":true,"canceled":true,)"
            R"("cancel_reason":"rpc error: code = PermissionDenied desc = etcdserver: permission denied")",
            errc::denied},
        row{R"("created":true,"canceled":true,"cancel_reason":"mvcc: watcher range is empty")", errc::malformed},
        row{R"("canceled":true)", errc::malformed},
    }));
    CAPTURE(fields);
    const auto message = parse_watch(R"({"result":{"header":{"cluster_id":"3","raft_term":"2"},)" + fields + "}}");
    REQUIRE(message);
    REQUIRE(message->canceled);
    CHECK(cancellation(*message).kind == kind);
}

TEST_CASE("watch: a revision of the store that cannot be followed by another is none", "[codec]") {
    for (const char* revision : {"9223372036854775807", "-1"}) {
        const auto message =
            parse_watch(R"({"result":{"header":{"cluster_id":"36","revision":")" + std::string(revision) + R"("}}})");
        REQUIRE(message);
        CHECK(message->header.revision == 0);
    }
}

TEST_CASE("watch: the error object of any version ends it", "[codec]") {
    for (
        const char* text :
        {R"({"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader","http_status":"Service Unavailable"}})",
         R"({"error":{"code":14,"message":"etcdserver: no leader", "details":[]}})"}) {
        const auto message = parse_watch(text);
        REQUIRE_FALSE(message);
        CHECK(message.error().kind == errc::no_leader);
        CHECK(message.error().detail == "watch: etcdserver: no leader");
    }
}

TEST_CASE("watch: a message that cannot be read is refused as a whole", "[codec]") {
    auto [fault, line] = GENERATE(table<std::string, std::string>({
        {"empty", ""},
        {"not JSON", "garbage"},
        {"no result", R"({"header":{}})"},
        {"result of a wrong type", R"({"result":7})"},
        {"events of a wrong type", R"({"result":{"events":{}}})"},
        {"event of a wrong type", R"({"result":{"events":[7]}})"},
        {"event without a key", R"({"result":{"events":[{"type":"PUT"}]}})"},
        {"event without a revision", R"({"result":{"events":[{"kv":{"key":"YQ=="}}]}})"},
        {"event of a negative revision", R"({"result":{"events":[{"kv":{"key":"YQ==","mod_revision":"-2"}}]}})"},
        {"event of a revision after which there is none",
         R"({"result":{"events":[{"kv":{"key":"YQ==","mod_revision":9223372036854775807}}]}})"},
        {"unknown type", R"({"result":{"events":[{"type":"MOVE","kv":{"key":"YQ==","mod_revision":"2"}}]}})"},
        {"type of a wrong type", R"({"result":{"events":[{"type":1,"kv":{"key":"YQ==","mod_revision":"2"}}]}})"},
        {"error of a wrong type", R"({"error":7})"},
    }));
    CAPTURE(fault);
    const auto message = parse_watch(line);
    REQUIRE_FALSE(message);
    CHECK(message.error().kind == errc::malformed);
}

TEST_CASE("authenticate: the token is read, and none that could break a header", "[codec]") {
    CHECK(*parse_authenticate(R"({"header":{},"token":"qmlQDgzYVQNAzBMr.19"})") == "qmlQDgzYVQNAzBMr.19");
    for (const char* body : {"", "{}", R"({"token":""})", R"({"token":5})", R"({"token":"a\r\nHost: x"})"})
        CHECK_FALSE(parse_authenticate(body));
}

TEST_CASE("errors: every version's form gives the same kind", "[codec]") {
    using row = std::tuple<std::string, unsigned, std::string, errc>;
    auto [name, status, body, kind] = GENERATE(table<std::string, unsigned, std::string, errc>({
        row{"3.3", 503, R"({"error":"etcdserver: no leader","code":14})", errc::no_leader},
        row{"3.4", 503, R"({"error":"etcdserver: no leader","message":"etcdserver: no leader","code":14})",
            errc::no_leader},
        row{"3.6", 503, R"({"code":14, "message":"etcdserver: no leader", "details":[]})", errc::no_leader},
        row{"3.4 stream", 503, R"({"error":{"grpc_code":14,"http_code":503,"message":"x","http_status":"y"}})",
            errc::no_leader},
        row{"leader changed", 503, R"({"error":"etcdserver: leader changed","code":14})", errc::no_leader},
        row{"server's own deadline", 500, R"({"error":"context deadline exceeded","code":2})", errc::timeout},
        row{"our deadline", 504, R"({"message":"context deadline exceeded","code":4})", errc::timeout},
        row{"no token", 400, R"({"error":"etcdserver: user name is empty","code":3})", errc::unauthorised},
        row{"expired token", 401, R"({"error":"etcdserver: invalid auth token","code":16})", errc::unauthorised},
        row{"old auth store", 400, R"({"error":"etcdserver: revision of auth store is old","code":3})",
            errc::unauthorised},
        row{"wrong password", 400,
            R"({"error":"etcdserver: authentication failed, invalid user ID or password","code":3})", errc::denied},
        row{"other grant", 403, R"({"error":"etcdserver: permission denied","code":7})", errc::denied},
        row{"auth is off", 412, R"({"error":"etcdserver: authentication is not enabled","code":9})", errc::unusable},
        row{"compacted", 400, R"({"error":"etcdserver: mvcc: required revision has been compacted","code":11})",
            errc::compacted},
        row{"future", 400, R"({"error":"etcdserver: mvcc: required revision is a future revision","code":11})",
            errc::stale},
        row{"3.6, unknown path", 404, R"({"code":5,"message":"Not Found","details":[]})", errc::unusable},
        row{"no gateway", 404, "404 page not found\n", errc::unusable},
        row{"host whitelist", 421, "misdirected", errc::unusable},
        row{"common name", 400, "CommonName of client sending a request against gateway will be ignored",
            errc::unusable},
        row{"proxy", 502, "<html>Bad Gateway</html>", errc::unreachable},
        row{"proxy without a body", 504, "", errc::unreachable},
        row{"redirect", 302, "", errc::malformed},
    }));
    CAPTURE(name);
    const failure why = parse_error(status, body);
    CHECK(why.kind == kind);
    CHECK(why.detail.find("HTTP " + std::to_string(status)) == 0);
}

TEST_CASE("errors: a gateway that is off is named as such", "[codec]") {
    CHECK(parse_error(404, "404 page not found\n").detail.find("gateway is disabled") != std::string::npos);
}

TEST_CASE("errors: a text from outside is made fit for the log", "[codec]") {
    const failure why = parse_error(500, "{\"error\":\"a\\nb" + std::string(5000, 'x') + "\",\"code\":2}");
    CHECK(why.detail.find('\n') == std::string::npos);
    CHECK(why.detail.size() < 300);
}

TEST_CASE("version: the cluster's version decides the prefix", "[codec]") {
    auto [version, prefix] = GENERATE(table<std::string, std::string>({
        {R"({"etcdserver":"3.4.23","etcdcluster":"3.4.0"})", "/v3"},
        {R"({"etcdserver":"3.4.23","etcdcluster":"3.3.0"})", "/v3beta"},
        {R"({"etcdserver":"3.3.13","etcdcluster":"3.2.0"})", "/v3alpha"},
        {R"({"etcdserver":"3.10.0","etcdcluster":"3.10.0"})", "/v3"},
        {R"({"etcdserver":"3.5.0","etcdcluster":"not_decided"})", "/v3"},
        {R"({"etcdcluster":3.3})", "/v3"},
        {"", "/v3"},
    }));
    CAPTURE(version);
    CHECK(gateway_prefix(version) == prefix);
}

TEST_CASE("parsers: no text whatever makes them throw", "[codec]") {
    const std::string seed = range_body(R"(,"kvs":[{"key":"L3MvYQ==","mod_revision":"5","value":"djE="}],"count":"1")");
    CHECK(rc::check([seed] {
        std::string text = *rc::gen::oneOf(rc::gen::arbitrary<std::string>(), rc::gen::just(seed));
        const auto position = *rc::gen::inRange<std::size_t>(0, text.size() + 1);
        text.insert(position, *rc::gen::arbitrary<std::string>());
        parse_range(text);
        parse_watch(text);
        parse_authenticate(text);
        parse_error(500, text);
        gateway_prefix(text);
    }));
}

TEST_CASE("line splitter: cuts at line feeds only", "[codec]") {
    line_splitter splitter(100);
    splitter.feed("{\"a\"");
    CHECK(lines_of(splitter).empty());
    splitter.feed(":1}\n{}\n{\"error\"");
    CHECK(lines_of(splitter) == std::vector<std::string>{"{\"a\":1}", "{}"});
    splitter.feed(":{}}");
    CHECK(lines_of(splitter).empty());
    CHECK(splitter.rest() == "{\"error\":{}}");
}

TEST_CASE("line splitter: a line longer than the limit ends it, with or without its end", "[codec]") {
    for (const char* text : {"12345\n123456\n1\n", "12345\n123456"}) {
        line_splitter splitter(5);
        splitter.feed(text);
        CHECK(lines_of(splitter) == std::vector<std::string>{"12345"});
        CHECK(splitter.overflowed());
        splitter.feed("\n1\n");
        CHECK(lines_of(splitter).empty());
    }
}

TEST_CASE("line splitter: lines do not depend on how the text arrives", "[codec]") {
    CHECK(rc::check([] {
        const auto text = *rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab\n")));
        const std::size_t limit = *rc::gen::inRange<std::size_t>(1, 6);
        line_splitter at_once(limit);
        at_once.feed(text);
        const auto expected = lines_of(at_once);

        line_splitter in_pieces(limit);
        std::vector<std::string> lines;
        for (std::size_t at = 0; at < text.size();) {
            const std::size_t size = *rc::gen::inRange<std::size_t>(1, 4);
            in_pieces.feed(std::string_view(text).substr(at, size));
            for (std::string& line : lines_of(in_pieces))
                lines.push_back(std::move(line));
            at += size;
        }
        RC_ASSERT(lines == expected);
        RC_ASSERT(in_pieces.overflowed() == at_once.overflowed());
        RC_ASSERT(in_pieces.rest() == at_once.rest());
    }));
}
