#include "etcd_http/gateway.hpp"

#include "../support/wait_until.hpp"
#include "fake_etcd.hpp"
#include "following.hpp"
#include "printers.hpp"

#include <boost/asio/ip/tcp.hpp>

using namespace pointsman::etcd_http;
using namespace pointsman::test;
using namespace std::chrono_literals;

namespace asio = boost::asio;
using std::chrono::steady_clock;

namespace {

gateway_settings settings_for(std::vector<gateway_endpoint> endpoints) {
    gateway_settings settings;
    settings.endpoints = std::move(endpoints);
    settings.poll_interval = 100ms;
    settings.deadline = 2s;
    return settings;
}

// For tests that must see the watch alone at work.
gateway_settings without_poll(gateway_settings settings) {
    settings.poll_interval = 1h;
    return settings;
}

gateway_settings with_password(gateway_settings settings, std::string password) {
    settings.username = "agent";
    settings.password = std::move(password);
    return settings;
}

} // namespace

TEST_CASE("gateway: what is there is told first, then what a watch brings", "[gateway]") {
    fake_etcd etcd;
    etcd.put("/s/demo/leader", "pg1");
    record seen;
    following f(without_poll(settings_for({etcd.endpoint()})), seen);
    REQUIRE(f.until([&etcd] { return etcd.watches() == 1; }));
    etcd.put("/s/demo/leader", "pg2");
    REQUIRE(f.until([&seen] { return seen.told.size() == 2; }));
    CHECK(f.end());
    REQUIRE(seen.told.size() == 2);
    CHECK(seen.told[0].keys.at("/s/demo/leader").value == "pg1");
    CHECK(seen.told[1].keys.at("/s/demo/leader").value == "pg2");
    CHECK(seen.told[1].revision > seen.told[0].revision);
    CHECK(seen.confirmed == 1);
    CHECK(seen.failures.empty());
}

TEST_CASE("gateway: reads and watches ask for a member with a leader, the watch from the next revision on",
          "[gateway]") {
    fake_etcd etcd;
    etcd.start_at(41);
    record seen;
    following f(without_poll(settings_for({etcd.endpoint()})), seen);
    REQUIRE(f.until([&etcd] { return etcd.watches() == 1; }));
    CHECK(f.end());
    CHECK(etcd.asked("Grpc-Metadata-hasleader: true\r\n") == 2);
    CHECK(etcd.asked(watch_request("/s/demo/", 42)) == 1);
    CHECK(etcd.asked("\r\nHost: 127.0.30.1:" + std::to_string(etcd.endpoint().port) + "\r\n") == 2);
}

TEST_CASE("gateway: a poll confirms, and tells only what has changed", "[gateway]") {
    fake_etcd etcd;
    etcd.put("/s/demo/leader", "pg1");
    record seen;
    following f(settings_for({etcd.endpoint()}), seen);
    REQUIRE(f.until([&seen] { return seen.confirmed >= 4; }));
    CHECK(f.end());
    CHECK(seen.confirmed >= 4);
    CHECK(seen.told.size() == 1);
    CHECK(seen.failures.empty());
}

TEST_CASE("gateway: what a watch has lost is told by the next poll", "[gateway]") {
    fake_etcd etcd;
    record seen;
    following f(settings_for({etcd.endpoint()}), seen);
    REQUIRE(f.until([&etcd] { return etcd.watches() == 1; }));
    etcd.set("/s/demo/leader", "pg2");
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg2"; }));
    CHECK(f.end());
    CHECK(seen.value("/s/demo/leader") == "pg2");
}

TEST_CASE("gateway: a watch that stays silent about a change is opened anew", "[gateway]") {
    fake_etcd etcd;
    record seen;
    following f(settings_for({etcd.endpoint()}), seen);
    REQUIRE(f.until([&etcd] { return etcd.watches() == 1; }));
    etcd.set("/s/demo/leader", "pg2");
    REQUIRE(f.until([&etcd] { return etcd.asked("/watch ") == 2; }));
    CHECK(f.end());
    CHECK(etcd.asked("/watch ") == 2);
    REQUIRE(seen.failures.size() == 1);
    CHECK(seen.failures[0].kind == errc::stale);
}

TEST_CASE("gateway: a watch that is slower than a poll is kept", "[gateway]") {
    fake_etcd etcd;
    record seen;
    following f(settings_for({etcd.endpoint()}), seen);
    REQUIRE(f.until([&etcd] { return etcd.watches() == 1; }));
    etcd.set("/s/demo/leader", "pg2");
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg2"; }));
    etcd.tell("/s/demo/leader");
    const int before = seen.confirmed;
    REQUIRE(f.until([&seen, before] { return seen.confirmed >= before + 3; }));
    CHECK(f.end());
    CHECK(etcd.asked("/watch ") == 1);
    CHECK(seen.failures.empty());
}

TEST_CASE("gateway: an endpoint that dies is left at once for the next", "[gateway]") {
    fake_etcd first;
    fake_etcd second;
    second.put("/s/demo/leader", "pg2");
    record seen;
    following f(without_poll(settings_for({first.endpoint(), second.endpoint()})), seen);
    REQUIRE(f.until([&first] { return first.watches() == 1; }));
    first.send_to_watches("", afterwards::cut);
    REQUIRE(f.until([&second] { return second.watches() == 1; }));
    second.put("/s/demo/leader", "pg3");
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg3"; }));
    CHECK(f.end());
    CHECK(seen.value("/s/demo/leader") == "pg3");
    REQUIRE(seen.failures.size() == 1);
    CHECK(seen.failures[0].kind == errc::unreachable);
    const std::string who = "etcd 127.0.30.1:" + std::to_string(first.endpoint().port) + ": ";
    CHECK(seen.failures[0].detail.starts_with(who));
}

TEST_CASE("gateway: an endpoint whose watch keeps silent because it hangs is found by the poll", "[gateway]") {
    fake_etcd first;
    fake_etcd second;
    second.put("/s/demo/leader", "pg2");
    record seen;
    following f(settings_for({first.endpoint(), second.endpoint()}), seen);
    REQUIRE(f.until([&first] { return first.watches() == 1; }));
    first.reads_hang = true; // as a stopped process: the connection stays open
    REQUIRE(f.until([&second] { return second.watches() == 1; }));
    REQUIRE(f.until([&first] { return first.watches() == 0; }));
    CHECK(f.end());
    CHECK(wait_until([&second] { return second.watches() == 0; })); // ended with the follower
    CHECK(seen.value("/s/demo/leader") == "pg2");
    REQUIRE(seen.failures.size() == 1);
    CHECK(seen.failures[0].kind == errc::timeout);
}

TEST_CASE("gateway: whether a watch is there is told when etcd has confirmed it and when it ends", "[gateway]") {
    fake_etcd etcd;
    record seen;
    following f(without_poll(settings_for({etcd.endpoint()})), seen);
    REQUIRE(f.until([&seen] { return seen.watching; }));
    etcd.watches_hang = true;
    etcd.send_to_watches("", afterwards::cut);
    REQUIRE(f.until([&seen] { return !seen.watching; }));
    f.go_on_for(200ms); // another was asked for, and is not confirmed
    CHECK_FALSE(seen.watching);
    etcd.watches_hang = false;
    REQUIRE(f.until([&seen] { return seen.watching; }));
    CHECK(f.end());
}

TEST_CASE("gateway: a watch that is never answered is given up", "[gateway]") {
    fake_etcd first;
    fake_etcd second;
    first.watches_hang = true;
    record seen;
    following f(without_poll(settings_for({first.endpoint(), second.endpoint()})), seen);
    REQUIRE(f.until([&second] { return second.watches() == 1; }));
    CHECK(f.end());
    REQUIRE(seen.failures.size() == 1);
    CHECK(seen.failures[0].kind == errc::timeout);
}

TEST_CASE("gateway: after a compaction everything is read again from the same endpoint", "[gateway]") {
    fake_etcd first;
    fake_etcd second;
    first.compacted = true;
    record seen;
    following f(without_poll(settings_for({first.endpoint(), second.endpoint()})), seen);
    REQUIRE(f.until([&first] { return first.asked("/watch ") == 2 && first.watches() == 1; }));
    first.put("/s/demo/leader", "pg1");
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg1"; }));
    CHECK(f.end());
    CHECK(seen.value("/s/demo/leader") == "pg1");
    CHECK(first.asked("/kv/range ") == 2);
    CHECK(second.asked("POST") == 0);
    REQUIRE(seen.failures.size() == 1);
    CHECK(seen.failures[0].kind == errc::compacted);
}

TEST_CASE("gateway: the error object that ends a stream is read, though no line feed ends it", "[gateway]") {
    fake_etcd etcd;
    record seen;
    following f(without_poll(settings_for({etcd.endpoint()})), seen);
    REQUIRE(f.until([&etcd] { return etcd.watches() == 1; }));
    etcd.send_to_watches(chunk(R"({"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}})") +
                         "0\r\n\r\n");
    REQUIRE(f.until([&etcd] { return etcd.asked("/watch ") == 2; }));
    CHECK(f.end());
    REQUIRE(seen.failures.size() == 1);
    CHECK(seen.failures[0].kind == errc::no_leader);
    CHECK(seen.failures[0].detail.find("etcdserver: no leader") != std::string::npos);
}

TEST_CASE("gateway: messages may come in any pieces", "[gateway]") {
    fake_etcd etcd;
    etcd.set("/s/demo/a", "1");
    record seen;
    following f(without_poll(settings_for({etcd.endpoint()})), seen);
    REQUIRE(f.until([&etcd] { return etcd.watches() == 1; }));
    const std::string line = R"({"result":{"header":{"cluster_id":"7"},"events":[{"kv":{"key":"L3MvZGVtby9i",)"
                             R"("mod_revision":"9","value":"Mg=="}}]}})";
    etcd.send_to_watches(chunk(line.substr(0, 7)) + chunk(line.substr(7, 50)));
    etcd.send_to_watches(chunk(line.substr(57) + "\n"));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/b") == "2"; }));
    CHECK(f.end());
    CHECK(seen.value("/s/demo/b") == "2");
    CHECK(seen.told.size() == 2);
}

TEST_CASE("gateway: garbage in a watch ends it and is not told", "[gateway]") {
    fake_etcd etcd;
    record seen;
    following f(without_poll(settings_for({etcd.endpoint()})), seen);
    REQUIRE(f.until([&etcd] { return etcd.watches() == 1; }));
    etcd.send_to_watches(chunk("{\"result\":\n"));
    REQUIRE(f.until([&etcd] { return etcd.asked("/watch ") == 2; }));
    CHECK(f.end());
    CHECK(seen.told.size() == 1);
    CHECK(seen.count(errc::malformed) == 1);
}

TEST_CASE("gateway: an answer that is not etcd's is a failure, never an empty set of keys", "[gateway]") {
    const char* body = GENERATE("", "{}", "[]", "<html></html>", R"({"header":{}})", R"({"kvs":[]})");
    CAPTURE(body);
    fake_etcd etcd;
    etcd.set("/s/demo/leader", "pg1");
    record seen;
    following f(settings_for({etcd.endpoint()}), seen);
    REQUIRE(f.until([&etcd] { return etcd.watches() == 1; }));
    etcd.garbage = body;
    REQUIRE(f.until([&seen] { return seen.failures.size() >= 2; }));
    CHECK(f.end());
    CHECK(seen.count(errc::malformed) >= 2);
    CHECK(seen.told.size() == 1);
    CHECK(seen.value("/s/demo/leader") == "pg1");
}

TEST_CASE("gateway: an endpoint that lags behind is left, and what it says is not told", "[gateway]") {
    fake_etcd first;
    fake_etcd second;
    fake_etcd third;
    first.start_at(100);
    first.set("/s/demo/leader", "new");
    second.set("/s/demo/leader", "old");
    third.start_at(101);
    third.set("/s/demo/leader", "newer");
    record seen;
    following f(without_poll(settings_for({first.endpoint(), second.endpoint(), third.endpoint()})), seen);
    REQUIRE(f.until([&first] { return first.watches() == 1; }));
    first.send_to_watches("", afterwards::cut);
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "newer"; }));
    CHECK(f.end());
    REQUIRE(seen.told.size() == 2);
    CHECK(seen.value("/s/demo/leader") == "newer");
    REQUIRE(seen.failures.size() == 2);
    CHECK(seen.failures[1].kind == errc::stale);
}

TEST_CASE("gateway: a store that was wiped or is another is reported, and the last keys stay", "[gateway]") {
    auto [name, cluster] = GENERATE(table<std::string, std::uint64_t>({{"wiped", 7}, {"another", 8}}));
    CAPTURE(name);
    fake_etcd etcd;
    etcd.start_at(100);
    etcd.set("/s/demo/leader", "pg1");
    record seen;
    following f(settings_for({etcd.endpoint()}), seen);
    REQUIRE(f.until([&etcd] { return etcd.watches() == 1; }));
    etcd.cluster = cluster;
    etcd.start_at(3);
    etcd.set("/s/demo/leader", "x");
    REQUIRE(f.until([&seen] { return seen.count(errc::gone_back) >= 3; }));
    CHECK(f.end());
    CHECK(seen.count(errc::gone_back) >= 3);
    CHECK(seen.told.size() == 1);
    CHECK(seen.value("/s/demo/leader") == "pg1");
}

TEST_CASE("gateway: a token is fetched when one is wanted, and again when it has expired", "[gateway]") {
    fake_etcd etcd;
    etcd.password = "secret";
    record seen;
    following f(with_password(settings_for({etcd.endpoint()}), "secret"), seen);
    REQUIRE(f.until([&etcd] { return etcd.watches() == 1; }));
    etcd.expire_tokens();
    const int before = seen.confirmed;
    REQUIRE(f.until([&seen, before] { return seen.confirmed >= before + 3; }));
    CHECK(f.end());
    CHECK(seen.confirmed >= 4);
    CHECK(seen.failures.empty());
    CHECK(etcd.asked("/auth/authenticate ") == 2);
    CHECK(etcd.asked("/watch ") == 1);
}

TEST_CASE("gateway: a wrong password is asked for once and then slowly", "[gateway]") {
    fake_etcd etcd;
    etcd.password = "secret";
    record seen;
    following f(with_password(settings_for({etcd.endpoint()}), "guess"), seen);
    f.go_on_for(1s);
    CHECK(seen.failures.size() == 1);
    CHECK(f.end());
    CHECK(seen.count(errc::denied) == 1);
    CHECK(etcd.asked("/auth/authenticate ") == 1);
    CHECK(seen.told.empty());
}

TEST_CASE("gateway: a user name is wanted but there is none", "[gateway]") {
    fake_etcd etcd;
    etcd.password = "secret";
    gateway without(settings_for({etcd.endpoint()}));
    const auto read = run_coro(without.read("/s/demo/"));
    REQUIRE_FALSE(read);
    CHECK(read.error().kind == errc::unauthorised);
}

TEST_CASE("gateway: an endpoint with TLS is never asked in plain text", "[gateway]") {
    auto settings = settings_for({{true, "127.0.30.1", 2379}});
    CHECK_THROWS_AS(gateway(settings), std::invalid_argument);
}

TEST_CASE("gateway: one that is switched off is named as such", "[gateway]") {
    fake_etcd etcd;
    etcd.gateway = "/nowhere";
    gateway off(settings_for({etcd.endpoint()}));
    const auto read = run_coro(off.read("/s/demo/"));
    REQUIRE_FALSE(read);
    CHECK(read.error().kind == errc::unusable);
    CHECK(read.error().detail.find("gateway is disabled") != std::string::npos);
}

TEST_CASE("gateway: an etcd before 3.4 is asked under its own prefix", "[gateway]") {
    fake_etcd etcd;
    etcd.gateway = "/v3beta";
    etcd.version = R"({"etcdserver":"3.3.13","etcdcluster":"3.3.0"})";
    etcd.password = "secret";
    record seen;
    following f(with_password(without_poll(settings_for({etcd.endpoint()})), "secret"), seen);
    REQUIRE(f.until([&etcd] { return etcd.watches() == 1; }));
    etcd.put("/s/demo/leader", "pg1");
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg1"; }));
    CHECK(f.end());
    CHECK(seen.value("/s/demo/leader") == "pg1");
    CHECK(seen.failures.empty());
    CHECK(etcd.asked("GET /version ") == 1);
}

TEST_CASE("gateway: a name is looked up, and its addresses are tried in turn", "[gateway]") {
    fake_etcd etcd("127.0.0.1"); // `localhost` may be ::1 first
    auto endpoint = etcd.endpoint();
    endpoint.host = "localhost";
    gateway by_name(settings_for({endpoint}));
    CHECK(run_coro(by_name.read("/s/demo/")));
    CHECK(etcd.asked("\r\nHost: localhost:") == 1);

    endpoint.host = std::string(70, 'a');
    gateway unknown(settings_for({endpoint}));
    const auto read = run_coro(unknown.read("/s/demo/"));
    REQUIRE_FALSE(read);
    CHECK(read.error().kind == errc::unreachable);
}

namespace {

// An endpoint at which nobody listens.
struct dead_endpoint {
    asio::io_context context;
    asio::ip::tcp::socket socket{context, {asio::ip::make_address("127.0.30.1"), 0}};
    gateway_endpoint where() const { return {false, "127.0.30.1", socket.local_endpoint().port()}; }
};

} // namespace

TEST_CASE("gateway: a read comes from the first endpoint that answers", "[gateway]") {
    dead_endpoint dead;
    fake_etcd etcd;
    etcd.set("/s/demo/leader", "pg1");
    gateway some(settings_for({dead.where(), etcd.endpoint()}));
    const auto read = run_coro(some.read("/s/demo/"));
    REQUIRE(read);
    CHECK(read->keys.at("/s/demo/leader").value == "pg1");
    CHECK(read->revision == 2);
    CHECK(read->cluster_id == 7);

    gateway none(settings_for({dead.where(), dead.where()}));
    const auto failed = run_coro(none.read("/s/demo/"));
    REQUIRE_FALSE(failed);
    CHECK(failed.error().kind == errc::refused);
}

TEST_CASE("gateway: while no endpoint answers, the attempts become rare", "[gateway]") {
    dead_endpoint first;
    dead_endpoint second;
    record seen;
    following f(settings_for({first.where(), second.where()}), seen);
    const auto begun = steady_clock::now();
    REQUIRE(f.until([&seen] { return seen.failures.size() >= 2; }));
    CHECK(steady_clock::now() - begun < 1s); // the second is asked at once
    f.go_on_for(2s);
    CHECK(f.end());
    CHECK(seen.failures.size() >= 4);
    CHECK(seen.failures.size() <= 9); // 2 at once, then after at least 50, 100, 200, 400, 800 ms
    CHECK(seen.told.empty());
}

TEST_CASE("gateway: an endpoint whose watches end at once is not asked without pause", "[gateway]") {
    fake_etcd etcd;
    etcd.watches_end = true;
    record seen;
    following f(settings_for({etcd.endpoint()}), seen);
    f.go_on_for(2s);
    CHECK(f.end());
    CHECK(etcd.asked("/watch ") >= 3);
    CHECK(etcd.asked("/watch ") <= 8);
}

TEST_CASE("gateway: cancelling ends following wherever it is, and leaves nothing behind", "[gateway]") {
    const std::string state = GENERATE("idle watch", "hanging read", "hanging watch", "pause");
    CAPTURE(state);
    fake_etcd etcd;
    dead_endpoint dead;
    etcd.reads_hang = state == "hanging read";
    etcd.watches_hang = state == "hanging watch";
    auto settings = settings_for({state == "pause" ? dead.where() : etcd.endpoint()});
    settings.poll_interval = settings.deadline = 1h;
    record seen;
    following f(settings, seen);
    REQUIRE(f.until([&] {
        if (state == "pause")
            return seen.failures.size() >= 3;
        return state == "hanging read" ? etcd.asked("/kv/range ") == 1 : etcd.watches() == 1;
    }));
    const auto failures = seen.failures.size();
    CHECK(f.end());
    CHECK(seen.failures.size() == failures); // a cancellation is not a failure
    CHECK(wait_until([&etcd] { return etcd.server().kept() == 0; }));
}

TEST_CASE("gateway: two clusters can be followed at a time", "[gateway]") {
    fake_etcd etcd;
    etcd.password = "secret";
    gateway shared(with_password(settings_for({etcd.endpoint()}), "secret"));
    record one;
    record other;
    const auto to_one = one.follower();
    const auto to_other = other.follower();
    running first(shared.follow("/s/demo/", to_one));
    running second(shared.follow("/s/demo2/", to_other));
    const auto both = [&] {
        first.until([&one, before = one.confirmed] { return one.confirmed > before; });
        second.until([&other, before = other.confirmed] { return other.confirmed > before; });
        return one.confirmed >= 3 && other.confirmed >= 3;
    };
    CHECK(wait_until(both));
    CHECK(first.cancel());
    CHECK(second.cancel());
    CHECK(one.failures.empty());
    CHECK(other.failures.empty());
    CHECK(etcd.asked(range_request("/s/demo2/")) >= 3);
}
