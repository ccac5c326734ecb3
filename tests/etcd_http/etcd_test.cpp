// The client against etcd itself. What is asserted of gateway_test.cpp's fake is true of this one too.

#include "etcd_http/codec.hpp"
#include "etcd_http/exchange.hpp"
#include "etcd_http/gateway.hpp"

#include "../support/wait_until.hpp"
#include "certificates.hpp"
#include "etcd_process.hpp"
#include "following.hpp"
#include "printers.hpp"

#include <csignal>
#include <filesystem>
#include <fstream>

using namespace pointsman::etcd_http;
using namespace pointsman::test;
using namespace std::chrono_literals;

namespace asio = boost::asio;
using asio::awaitable;
using std::chrono::steady_clock;

namespace {

gateway_settings settings_for(std::vector<gateway_endpoint> endpoints) {
    gateway_settings settings;
    settings.endpoints = std::move(endpoints);
    settings.poll_interval = 500ms;
    settings.deadline = 2s;
    return settings;
}

gateway_settings without_poll(gateway_settings settings) {
    settings.poll_interval = 1h;
    return settings;
}

// A unary call with any user's token, as the tests' own client.
awaitable<result<http_reply>> call(gateway_endpoint where, std::string path, std::string body, tls_context tls = {}) {
    http_request request;
    request.method = "POST";
    request.ip = request.host = where.host;
    request.port = where.port;
    request.tls = where.tls ? tls : nullptr;
    request.target = std::move(path);
    request.body = std::move(body);
    co_return co_await exchange(request, 5s, 1 << 20);
}

std::string put_body(const std::string& key, const std::string& value) {
    return R"({"key":")" + base64_encode(key) + R"(","value":")" + base64_encode(value) + R"("})";
}

awaitable<bool> put(gateway_endpoint where, std::string key, std::string value, tls_context tls = {}) {
    auto reply = co_await call(where, "/v3/kv/put", put_body(key, value), tls);
    co_return reply && reply->status == 200;
}

awaitable<bool> erase(gateway_endpoint where, std::string key) {
    const std::string body = R"({"key":")" + base64_encode(key) + R"("})";
    auto reply = co_await call(where, "/v3/kv/deleterange", body);
    co_return reply && reply->status == 200;
}

// A member has a leader and serves reads.
void wait_for(const gateway_settings& settings) {
    gateway client(settings);
    failure last;
    const bool serves = wait_until(
        [&client, &last] {
            const auto read = run_coro(client.read("/wait/"));
            if (!read)
                last = read.error();
            return read || last.kind == errc::unauthorised;
        },
        12s);
    if (!serves)
        throw std::runtime_error("etcd does not answer: " + last.detail);
}

struct single_etcd {
    scratch_dir dir;
    std::vector<std::string> addresses{free_addresses(1)};
    etcd_process etcd;

    explicit single_etcd(std::vector<std::string> arguments = {})
        : etcd(addresses[0], dir.path("data"), addresses, std::move(arguments)) {
        wait_for(settings_for({etcd.endpoint()}));
    }

    std::string etcdctl(const std::string& arguments) const {
        return output_of("ETCDCTL_API=3 etcdctl --endpoints " + etcd.url() + " " + arguments);
    }
};

struct three_etcds {
    scratch_dir dir;
    std::vector<std::string> addresses{free_addresses(3)};
    etcd_process a{addresses[0], dir.path("a"), addresses};
    etcd_process b{addresses[1], dir.path("b"), addresses};
    etcd_process c{addresses[2], dir.path("c"), addresses};

    three_etcds() {
        for (const etcd_process* one : {&a, &b, &c})
            wait_for(settings_for({one->endpoint()}));
    }

    gateway_settings settings() const { return settings_for({a.endpoint(), b.endpoint(), c.endpoint()}); }
};

} // namespace

TEST_CASE_METHOD(single_etcd, "etcd: keys of the prefix are followed, those of a longer scope are not", "[etcd]") {
    REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo/leader", "pg1")));
    REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo2/leader", "x")));
    record seen;
    following f(without_poll(settings_for({etcd.endpoint()})), seen);
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg1"; }));
    REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo/leader", "pg2")));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg2"; }));
    REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo2/leader", "y")));
    REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo", "z")));
    REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo/empty", "")));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/empty").empty(); }));
    REQUIRE(run_coro(erase(etcd.endpoint(), "/s/demo/leader")));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "-"; }));
    CHECK(f.end());
    for (const key_snapshot& told : seen.told)
        CHECK(std::ranges::all_of(told.keys, [](const auto& one) { return one.first.starts_with("/s/demo/"); }));
    CHECK(seen.told.size() == 4);
    CHECK(seen.failures.empty());
}

TEST_CASE_METHOD(single_etcd, "etcd: keys that vanish in one revision are told as one change", "[etcd]") {
    REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo/leader", "pg1")));
    REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo/members/pg1", "{}")));
    record seen;
    following f(without_poll(settings_for({etcd.endpoint()})), seen);
    REQUIRE(f.until([&seen] { return seen.told.size() == 1; }));
    const std::string range = R"({"key":")" + base64_encode("/s/demo/") + R"(","range_end":")" +
                              base64_encode(prefix_end("/s/demo/")) + R"("})";
    REQUIRE(run_coro(call(etcd.endpoint(), "/v3/kv/deleterange", range)));
    REQUIRE(f.until([&seen] { return seen.told.size() == 2; }));
    CHECK(f.end());
    REQUIRE(seen.told.size() == 2);
    CHECK(seen.told[1].keys.empty());
}

TEST_CASE_METHOD(single_etcd, "etcd: a change reaches the follower within milliseconds", "[etcd]") {
    record seen;
    std::vector<std::chrono::microseconds> after_ack;
    following f(without_poll(settings_for({etcd.endpoint()})), seen);
    REQUIRE(f.until([&seen] { return seen.told.size() == 1; }));
    for (int i = 0; i < 100; ++i) {
        const std::string value = std::to_string(i);
        REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo/leader", value)));
        const auto acknowledged = steady_clock::now();
        REQUIRE(f.until([&seen, value] { return seen.value("/s/demo/leader") == value; }));
        after_ack.push_back(std::chrono::duration_cast<std::chrono::microseconds>(steady_clock::now() - acknowledged));
    }
    CHECK(f.end());
    REQUIRE(after_ack.size() == 100);
    std::ranges::sort(after_ack);
    INFO("median " << after_ack[50].count() << " us, 99th " << after_ack[98].count() << " us after the put's answer");
    CHECK(after_ack[50] < 10ms);
    CHECK(seen.failures.empty());
}

TEST_CASE_METHOD(single_etcd, "etcd: a watch that starts at a compacted revision is told as such", "[etcd]") {
    for (int i = 0; i < 5; ++i)
        REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo/leader", std::to_string(i))));
    etcdctl("compaction 5");

    http_request request;
    request.method = "POST";
    request.ip = request.host = etcd.ip();
    request.port = 2379;
    request.target = "/v3/watch";
    request.body = watch_request("/s/demo/", 2);
    line_splitter lines(10000);
    std::vector<watch_message> messages;
    const stream_reader reader = [&lines, &messages](std::string_view piece) {
        lines.feed(piece);
        while (const auto line = lines.next())
            if (auto message = parse_watch(*line))
                messages.push_back(std::move(*message));
        return !messages.empty() && messages.back().canceled ? stream_wish::stop : stream_wish::in_time;
    };
    REQUIRE(run_coro(stream(request, 5s, 10000, reader)));
    REQUIRE(messages.size() == 2);
    CHECK(messages[0].created);
    CHECK(messages[1].canceled);
    CHECK(cancellation(messages[1]).kind == errc::compacted);
}

TEST_CASE_METHOD(single_etcd, "etcd: a restart is survived without going back", "[etcd]") {
    record seen;
    following f(settings_for({etcd.endpoint()}), seen);
    REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo/leader", "pg1")));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg1"; }));
    etcd.kill();
    REQUIRE(f.until([&seen] { return seen.count(errc::refused) >= 2; }));
    etcd.start();
    const int before = seen.confirmed;
    REQUIRE(f.until([&seen, before] { return seen.confirmed > before; }));
    REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo/leader", "pg2")));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg2"; }));
    CHECK(f.end());
    CHECK(seen.value("/s/demo/leader") == "pg2");
    CHECK(seen.count(errc::gone_back) == 0);
    CHECK(seen.count(errc::stale) == 0);
    CHECK(std::ranges::is_sorted(seen.told, {}, &key_snapshot::revision));
}

TEST_CASE_METHOD(single_etcd, "etcd: a store that was wiped is reported and not told", "[etcd]") {
    record seen;
    following f(settings_for({etcd.endpoint()}), seen);
    for (int i = 0; i < 5; ++i)
        REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo/leader", "pg1")));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg1"; }));
    etcd.kill();
    std::filesystem::remove_all(dir.path("data"));
    etcd.start(); // the same name, addresses and token: the same cluster id
    REQUIRE(f.until([&seen] { return seen.count(errc::gone_back) >= 2; }));
    CHECK(f.end());
    CHECK(seen.count(errc::gone_back) >= 2);
    CHECK(seen.value("/s/demo/leader") == "pg1");
}

TEST_CASE("etcd: authentication with tokens that expire, and a role that may only read the prefix", "[etcd]") {
    single_etcd one({"--auth-token", "simple", "--auth-token-ttl", "1"});
    REQUIRE(run_coro(put(one.etcd.endpoint(), "/s/demo/leader", "pg1")));
    one.etcdctl("user add root:root");
    one.etcdctl("role add reader");
    one.etcdctl("role grant-permission reader --prefix=true read /s/demo/");
    one.etcdctl("user add agent:secret");
    one.etcdctl("user grant-role agent reader");
    one.etcdctl("auth enable");

    auto settings = settings_for({one.etcd.endpoint()});
    settings.username = "agent";
    settings.password = "secret";
    settings.poll_interval = 3s; // longer than a token lives
    record seen;
    following f(settings, seen);
    REQUIRE(f.until([&seen] { return seen.told.size() == 1; }));
    REQUIRE(f.until([&seen] { return seen.confirmed >= 3; }));
    one.etcdctl("--user root:root put /s/demo/leader pg2");
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg2"; }));
    CHECK(f.end());
    CHECK(seen.value("/s/demo/leader") == "pg2");
    CHECK(seen.confirmed >= 3);
    CHECK(seen.failures.empty());

    const auto kind_of = [](gateway_settings s, const std::string& prefix) {
        gateway client(std::move(s));
        const auto read = run_coro(client.read(prefix));
        REQUIRE_FALSE(read);
        return read.error().kind;
    };
    CHECK(kind_of(settings, "/s/") == errc::denied); // wider than the grant
    settings.password = "guess";
    CHECK(kind_of(settings, "/s/demo/") == errc::denied);
    settings.username = "nobody";
    CHECK(kind_of(settings, "/s/demo/") == errc::denied);
    settings.username.clear();
    CHECK(kind_of(settings, "/s/demo/") == errc::unauthorised);
}

TEST_CASE("etcd: a user name does no harm where authentication is off", "[etcd]") {
    single_etcd one;
    auto settings = settings_for({one.etcd.endpoint()});
    settings.username = "agent";
    settings.password = "secret";
    gateway client(settings);
    CHECK(run_coro(client.read("/s/demo/")));
}

TEST_CASE("etcd: a gateway that is switched off is named as such", "[etcd]") {
    scratch_dir dir;
    const auto addresses = free_addresses(1);
    etcd_process etcd(addresses[0], dir.path("data"), addresses, {"--enable-grpc-gateway=false"});
    gateway client(settings_for({etcd.endpoint()}));
    result<key_snapshot> read = failure{};
    CHECK(wait_until([&client, &read] {
        read = run_coro(client.read("/s/demo/"));
        return read || read.error().kind != errc::refused; // nobody listens at first
    }));
    REQUIRE_FALSE(read);
    CHECK(read.error().kind == errc::unusable);
    CHECK(read.error().detail.find("gateway is disabled") != std::string::npos);
}

TEST_CASE_METHOD(three_etcds, "etcd: when the member in use is killed, the next one is used at once", "[etcd]") {
    record seen;
    std::chrono::milliseconds gap{};
    following f(settings(), seen);
    REQUIRE(run_coro(put(b.endpoint(), "/s/demo/leader", "pg1")));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg1"; }));
    a.kill();
    const auto killed = steady_clock::now();
    const int before = seen.confirmed;
    REQUIRE(f.until([&seen, before] { return seen.confirmed > before; }));
    gap = std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() - killed);
    for (bool done = false; !done;) // until the others have a leader
        done = run_coro(put(c.endpoint(), "/s/demo/leader", "pg2"));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg2"; }));
    CHECK(f.end());
    CHECK(seen.value("/s/demo/leader") == "pg2");
    CHECK(seen.count(errc::gone_back) == 0);
    INFO("answered again after " << gap.count() << " ms");
    CHECK(gap < 8s); // an election included
}

TEST_CASE_METHOD(three_etcds, "etcd: a member that hangs is found by the poll, and its watch is left", "[etcd]") {
    record seen;
    following f(settings(), seen);
    REQUIRE(run_coro(put(b.endpoint(), "/s/demo/leader", "pg1")));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg1"; }));
    a.signal(SIGSTOP);
    REQUIRE(f.until([&seen] { return seen.count(errc::timeout) >= 1; }));
    for (bool done = false; !done;)
        done = run_coro(put(c.endpoint(), "/s/demo/leader", "pg2"));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg2"; }));
    CHECK(f.end());
    a.signal(SIGCONT);
    CHECK(seen.value("/s/demo/leader") == "pg2");
    CHECK(seen.count(errc::timeout) >= 1);
    CHECK(seen.count(errc::gone_back) == 0);
}

TEST_CASE_METHOD(three_etcds, "etcd: a member without quorum is not believed", "[etcd]") {
    auto impatient = settings();
    impatient.deadline = 1s;
    record seen;
    following f(impatient, seen);
    REQUIRE(run_coro(put(b.endpoint(), "/s/demo/leader", "pg1")));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg1"; }));
    b.signal(SIGSTOP);
    c.signal(SIGSTOP);
    REQUIRE(f.until([&seen] { return seen.failures.size() >= 3; }));
    const int before = seen.confirmed;
    b.signal(SIGCONT);
    c.signal(SIGCONT);
    REQUIRE(f.until([&seen, before] { return seen.confirmed > before; }));
    CHECK(f.end());
    CHECK(seen.failures.size() >= 3);
    CHECK(seen.value("/s/demo/leader") == "pg1");
    CHECK(std::ranges::is_sorted(seen.told, {}, &key_snapshot::revision));
}

TEST_CASE("etcd: TLS with a client certificate, for reads and watches", "[etcd]") {
    scratch_dir dir;
    certificates certs(dir);
    const auto addresses = free_addresses(1);
    certs.issue("server", "/O=etcd", "IP:" + addresses[0]);
    certs.issue("client", "/O=pointsman", "DNS:agent"); // no CN: the gateway refuses one (facts 5.5)
    etcd_process etcd(addresses[0], dir.path("data"), addresses,
                      {"--cert-file", certs.cert("server"), "--key-file", certs.key("server"), "--client-cert-auth",
                       "--trusted-ca-file", certs.cert("ca")},
                      "https");
    auto settings = without_poll(settings_for({etcd.endpoint()}));
    settings.tls = *make_tls_context(
        {.ca_file = certs.cert("ca"), .cert_file = certs.cert("client"), .key_file = certs.key("client")});
    wait_for(settings);
    record seen;
    following f(settings, seen);
    REQUIRE(f.until([&seen] { return seen.told.size() == 1; }));
    REQUIRE(run_coro(put(etcd.endpoint(), "/s/demo/leader", "pg1", settings.tls)));
    REQUIRE(f.until([&seen] { return seen.value("/s/demo/leader") == "pg1"; }));
    CHECK(f.end());
    CHECK(seen.value("/s/demo/leader") == "pg1");
    CHECK(seen.failures.empty());

    settings.tls = *make_tls_context({.ca_file = certs.cert("ca"), .cert_file = {}, .key_file = {}});
    gateway without(settings);
    const auto refused = run_coro(without.read("/s/demo/"));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind == errc::unreachable);
}
