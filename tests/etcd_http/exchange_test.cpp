#include "etcd_http/exchange.hpp"

#include "../support/wait_until.hpp"
#include "certificates.hpp"
#include "fake_server.hpp"
#include "printers.hpp"
#include "run_coro.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>

#include <openssl/ssl.h>

#include <algorithm>
#include <thread>

using namespace pointsman::etcd_http;
using namespace pointsman::test;
using namespace std::chrono_literals;

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

http_request request_to(const fake_server& server, std::string target = "/primary") {
    http_request request;
    request.ip = server.ip();
    request.host = server.ip();
    request.port = server.port();
    request.target = std::move(target);
    return request;
}

result<http_reply> ask(const http_request& request, std::chrono::milliseconds deadline = 5s,
                       std::size_t max_body = 1000) {
    return run_coro(exchange(request, deadline, max_body));
}

result<http_reply> ask_for(answer what) {
    fake_server server([what](const std::string&) { return what; });
    return ask(request_to(server));
}

// A port on which nobody listens: bound, so that nobody else can.
struct closed_port {
    asio::io_context context;
    tcp::socket socket{context, tcp::endpoint(asio::ip::make_address("127.0.30.1"), 0)};
    std::uint16_t number() const { return socket.local_endpoint().port(); }
};

} // namespace

TEST_CASE("exchange: an answer of HTTP/1.0 that ends with the connection is complete", "[exchange]") {
    // as Patroni's REST API writes it (facts 2.1)
    const auto reply = ask_for({"HTTP/1.0 503 Service Unavailable\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\n"
                                "Content-Type: application/json\r\n\r\n{\"state\": \"running\"}"});
    REQUIRE(reply);
    CHECK(reply->status == 503);
    CHECK(reply->content_type == "application/json");
    CHECK(reply->body == "{\"state\": \"running\"}");
}

TEST_CASE("exchange: a status line alone is an answer", "[exchange]") {
    const auto reply = ask_for({"HTTP/1.0 200 OK\r\n\r\n"});
    REQUIRE(reply);
    CHECK(reply->status == 200);
    CHECK(reply->body.empty());
}

TEST_CASE("exchange: an answer with a length does not wait for the end of the connection", "[exchange]") {
    const auto reply = ask_for({http_answer(200, "{}"), afterwards::keep});
    REQUIRE(reply);
    CHECK(reply->body == "{}");
}

TEST_CASE("exchange: a chunked answer with a trailer is read", "[exchange]") {
    // every error reply of etcd's gateway up to 3.5 (facts 5.7)
    const auto reply = ask_for({"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                                "Trailer: Grpc-Trailer-Content-Type\r\nTransfer-Encoding: chunked\r\n\r\n" +
                                    chunk("{\"error\":") + chunk("\"x\"}") +
                                    "0\r\nGrpc-Trailer-Content-Type: application/grpc\r\n\r\n",
                                afterwards::keep});
    REQUIRE(reply);
    CHECK(reply->status == 503);
    CHECK(reply->body == "{\"error\":\"x\"}");
}

TEST_CASE("exchange: the answer to HEAD has no body, whatever length it names", "[exchange]") {
    fake_server server([](const std::string&) {
        return answer{"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", afterwards::keep};
    });
    auto request = request_to(server);
    request.method = "HEAD";
    CHECK(ask(request));
}

TEST_CASE("exchange: the request is sent as it was given", "[exchange]") {
    fake_server server([](const std::string&) { return answer{http_answer(200, "")}; });
    auto request = request_to(server, "/replica?lag=16MB");
    request.method = "POST";
    request.host = "db-1.example.org";
    request.headers = {{"Authorization", "token.1"}};
    request.body = "{}";
    REQUIRE(ask(request));

    const auto seen = server.requests();
    REQUIRE(seen.size() == 1);
    CHECK(seen[0].starts_with("POST /replica?lag=16MB HTTP/1.1\r\n"));
    CHECK(seen[0].find("\r\nHost: db-1.example.org:" + std::to_string(server.port()) + "\r\n") != std::string::npos);
    CHECK(seen[0].find("\r\nConnection: close\r\n") != std::string::npos);
    CHECK(seen[0].find("\r\nAuthorization: token.1\r\n") != std::string::npos);
    CHECK(seen[0].ends_with("\r\n\r\n{}"));
}

TEST_CASE("exchange: an IPv6 address stands in brackets in the Host header", "[exchange]") {
    fake_server server([](const std::string&) { return answer{http_answer(200, "")}; }, "::1");
    REQUIRE(ask(request_to(server)));
    CHECK(server.requests("\r\nHost: [::1]:").size() == 1);
}

TEST_CASE("exchange: an answer larger than its limit is dropped", "[exchange]") {
    const std::string large(1001, 'x');
    auto [name, bytes] = GENERATE_COPY(table<std::string, std::string>({
        {"by its length", http_answer(200, large)},
        {"by a length without end", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n" + large},
        {"until the end", "HTTP/1.0 200 OK\r\n\r\n" + large},
        {"in chunks", chunked_head() + chunk(std::string(999, 'x')) + chunk("xx") + "0\r\n\r\n"},
        {"head", "HTTP/1.0 200 OK\r\nX: " + std::string(20000, 'x') + "\r\n\r\n"},
        {"extension of a chunk", chunked_head() + "1;" + std::string(100000, 'x') + "\r\n1\r\n0\r\n\r\n"},
        {"name in a trailer", chunked_head() + "0\r\n" + std::string(100000, 'x') + ": 1\r\n\r\n"},
        {"value in a trailer", chunked_head() + "0\r\nX: " + std::string(100000, 'x') + "\r\n\r\n"},
    }));
    CAPTURE(name);
    const auto reply = ask_for({bytes, afterwards::close});
    REQUIRE_FALSE(reply);
    CHECK(reply.error().kind == errc::too_large);
}

TEST_CASE("exchange: an answer as large as its limit is whole", "[exchange]") {
    const auto reply = ask_for({"HTTP/1.0 200 OK\r\n\r\n" + std::string(1000, 'x')});
    REQUIRE(reply);
    CHECK(reply->body.size() == 1000);
}

TEST_CASE("exchange: an answer that is cut short is a failure", "[exchange]") {
    auto [name, bytes] = GENERATE(table<std::string, std::string>({
        {"nothing", ""},
        {"head", "HTTP/1.0 200 OK\r\nContent-"},
        {"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234"},
        {"chunk", chunked_head() + "5\r\n123"},
        {"no last chunk", chunked_head() + chunk("123")},
    }));
    CAPTURE(name);
    const auto reply = ask_for({bytes, afterwards::close});
    REQUIRE_FALSE(reply);
    CHECK(reply.error().kind == errc::unreachable);
}

TEST_CASE("exchange: what is not HTTP is malformed", "[exchange]") {
    for (const char* bytes : {"<!DOCTYPE HTML>\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n"}) {
        const auto reply = ask_for({bytes});
        REQUIRE_FALSE(reply);
        CHECK(reply.error().kind == errc::malformed);
    }
}

TEST_CASE("exchange: the deadline covers every step", "[exchange]") {
    auto [name, bytes] = GENERATE(table<std::string, std::string>({
        {"no answer", ""},
        {"half a head", "HTTP/1.0 200 OK\r\n"},
        {"no end", "HTTP/1.0 200 OK\r\n\r\nabc"},
        {"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12"},
    }));
    CAPTURE(name);
    fake_server server([bytes = bytes](const std::string&) { return answer{bytes, afterwards::keep}; });
    const auto begun = std::chrono::steady_clock::now();
    const auto reply = ask(request_to(server), 100ms);
    REQUIRE_FALSE(reply);
    CHECK(reply.error().kind == errc::timeout);
    CHECK(std::chrono::steady_clock::now() - begun >= 100ms);
}

TEST_CASE("exchange: an answer that trickles in does not stretch the deadline", "[exchange]") {
    fake_server server([](const std::string&) { return answer{"HTTP/1.0 200 OK\r\n\r\n", afterwards::keep}; });
    std::jthread trickle([&server](const std::stop_token& stop) {
        while (!stop.stop_requested())
            server.send_to_kept("", "x");
    });
    const auto reply = run_coro(exchange(request_to(server), 200ms, std::size_t{1} << 30));
    REQUIRE_FALSE(reply);
    CHECK(reply.error().kind == errc::timeout);
}

TEST_CASE("exchange: a port on which nobody listens is `refused`, and the failure names it", "[exchange]") {
    closed_port port;
    http_request request;
    request.ip = "127.0.30.1";
    request.host = "db-1.example.org";
    request.port = port.number();
    const auto reply = ask(request);
    REQUIRE_FALSE(reply);
    CHECK(reply.error().kind == errc::refused);
    CHECK(reply.error().detail ==
          "db-1.example.org:" + std::to_string(port.number()) + " (127.0.30.1): connecting: Connection refused");
}

TEST_CASE("exchange: a name instead of an address is not looked up", "[exchange]") {
    http_request request;
    request.ip = request.host = "localhost";
    const auto reply = ask(request);
    REQUIRE_FALSE(reply);
    CHECK(reply.error().kind == errc::unreachable);
}

namespace {

// What is spawned takes values.
asio::awaitable<void> exchange_for_ever(http_request request) {
    co_await exchange(request, 1h, 1000);
}

} // namespace

TEST_CASE("exchange: cancelling throws, closes the connection and leaves nothing behind", "[exchange]") {
    auto [name, bytes] = GENERATE(
        table<std::string, std::string>({{"waiting for the head", ""}, {"in the body", "HTTP/1.0 200 OK\r\n\r\nabc"}}));
    CAPTURE(name);
    fake_server server([bytes = bytes](const std::string&) { return answer{bytes, afterwards::keep}; });
    running body(exchange_for_ever(request_to(server)));
    REQUIRE(body.until([&server] { return server.kept() == 1; }));
    CHECK(body.cancel());
    CHECK(wait_until([&server] { return server.kept() == 0; }));
}

namespace {

// Reads a stream and notes its pieces; stops at "stop", lifts the deadline at "for ever".
struct piece_log {
    std::string text;
    stream_wish operator()(std::string_view piece) {
        text += piece;
        if (text.find("stop") != text.npos)
            return stream_wish::stop;
        return text.find("for ever") != text.npos ? stream_wish::for_ever : stream_wish::in_time;
    }
};

asio::awaitable<result<http_reply>> read_stream(http_request request, std::chrono::milliseconds deadline,
                                                piece_log& log) {
    const stream_reader reader = std::ref(log);
    co_return co_await stream(request, deadline, 1000, reader);
}

} // namespace

TEST_CASE("stream: pieces are delivered as they come, until the reader stops", "[exchange]") {
    fake_server server([](const std::string&) { return answer{chunked_head() + chunk("for ever"), afterwards::keep}; });
    piece_log log;
    std::jthread more([&server, &log] {
        wait_until([&server] { return server.kept() == 1; });
        server.send_to_kept("", chunk(", and "));
        server.send_to_kept("", chunk("stop"));
    });
    const auto reply = run_coro(read_stream(request_to(server), 5s, log));
    REQUIRE(reply);
    CHECK(reply->status == 200);
    CHECK(reply->body.empty());
    CHECK(log.text == "for ever, and stop");
}

TEST_CASE("stream: the deadline holds until the reader lifts it", "[exchange]") {
    fake_server server([](const std::string&) { return answer{chunked_head() + chunk("wait"), afterwards::keep}; });
    piece_log log;
    const auto reply = run_coro(read_stream(request_to(server), 100ms, log));
    REQUIRE_FALSE(reply);
    CHECK(reply.error().kind == errc::timeout);
    CHECK(log.text == "wait");
}

TEST_CASE("stream: silence is no failure once the reader has lifted the deadline", "[exchange]") {
    fake_server server([](const std::string&) { return answer{chunked_head() + chunk("for ever"), afterwards::keep}; });
    piece_log log;
    std::jthread more([&server] {
        const auto begun = std::chrono::steady_clock::now();
        wait_until([begun] { return std::chrono::steady_clock::now() - begun > 300ms; });
        server.send_to_kept("", chunk("stop"));
    });
    CHECK(run_coro(read_stream(request_to(server), 100ms, log)));
}

TEST_CASE("stream: the body of an error is returned, not streamed", "[exchange]") {
    fake_server server([](const std::string&) { return answer{http_answer(503, "no leader")}; });
    piece_log log;
    const auto reply = run_coro(read_stream(request_to(server), 5s, log));
    REQUIRE(reply);
    CHECK(reply->status == 503);
    CHECK(reply->body == "no leader");
    CHECK(log.text.empty());
}

TEST_CASE("stream: a peer that dies is a failure", "[exchange]") {
    fake_server server([](const std::string&) {
        return answer{chunked_head() + chunk("for ever"), afterwards::close};
    });
    piece_log log;
    const auto reply = run_coro(read_stream(request_to(server), 5s, log));
    REQUIRE_FALSE(reply);
    CHECK(reply.error().kind == errc::unreachable);
}

TEST_CASE("port_open: true where somebody listens, false where the port refuses", "[exchange]") {
    fake_server server([](const std::string&) { return answer{}; });
    const auto open = run_coro(port_open(server.ip(), server.port(), 5s));
    REQUIRE(open);
    CHECK(*open);

    closed_port port;
    const auto closed = run_coro(port_open("127.0.30.1", port.number(), 5s));
    REQUIRE(closed);
    CHECK_FALSE(*closed);
}

TEST_CASE("port_open: not known where nobody answers", "[exchange]") {
    // a full backlog: the kernel drops further connection requests
    asio::io_context context;
    tcp::acceptor acceptor(context, tcp::endpoint(asio::ip::make_address("127.0.30.1"), 0));
    acceptor.listen(0);
    tcp::socket first(context);
    first.connect(acceptor.local_endpoint());
    const auto open = run_coro(port_open("127.0.30.1", acceptor.local_endpoint().port(), 100ms));
    REQUIRE_FALSE(open);
    CHECK(open.error().kind == errc::timeout);
}

TEST_CASE("resolve: numeric addresses stay, names are looked up", "[exchange]") {
    for (const char* address : {"10.0.0.1", "fd00::1"})
        CHECK(*run_coro(resolve(address)) == std::vector<std::string>{address});

    const auto found = run_coro(resolve("localhost"));
    REQUIRE(found);
    CHECK(std::find(found->begin(), found->end(), "127.0.0.1") != found->end());

    const auto failed = run_coro(resolve(std::string(70, 'a') + ".invalid")); // refused without asking anybody
    REQUIRE_FALSE(failed);
    CHECK(failed.error().kind == errc::unreachable);
}

namespace {

struct tls_fixture {
    scratch_dir dir;
    certificates certs{dir};

    tls_fixture() { certs.issue("server", "/CN=server", "DNS:db-1.example.org,DNS:*.wild.example.org,IP:127.0.30.1"); }

    std::shared_ptr<asio::ssl::context> server_context(bool wants_client = false) const {
        auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
        context->use_certificate_chain_file(certs.cert("server"));
        context->use_private_key_file(certs.key("server"), asio::ssl::context::pem);
        context->load_verify_file(certs.cert("ca"));
        if (wants_client)
            context->set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
        return context;
    }

    tls_context client() const {
        return *make_tls_context({.ca_file = certs.cert("ca"), .cert_file = {}, .key_file = {}});
    }
};

} // namespace

TEST_CASE_METHOD(tls_fixture, "tls: the certificate must be for the host that was asked for", "[exchange][tls]") {
    fake_server server([](const std::string&) { return answer{http_answer(200, "{}")}; }, "127.0.30.1",
                       server_context());
    auto request = request_to(server);
    request.tls = client();
    auto [host, fits] = GENERATE(table<std::string, bool>({{"127.0.30.1", true},
                                                           {"db-1.example.org", true},
                                                           {"DB-1.example.org", true},
                                                           {"a.wild.example.org", true},
                                                           {"127.0.30.2", false},
                                                           {"db-2.example.org", false},
                                                           {"server", false},
                                                           {"wild.example.org", false}}));
    CAPTURE(host);
    request.host = host;
    const auto reply = ask(request);
    REQUIRE(reply.has_value() == fits);
    if (!fits) {
        CHECK(reply.error().kind == errc::unreachable);
        CHECK(reply.error().detail.find("mismatch") != std::string::npos);
    }
}

TEST_CASE_METHOD(tls_fixture, "tls: the certificate must be of a CA that is trusted", "[exchange][tls]") {
    const scratch_dir other_dir;
    const certificates other(other_dir);
    fake_server server([](const std::string&) { return answer{http_answer(200, "{}")}; }, "127.0.30.1",
                       server_context());
    auto request = request_to(server);
    for (const std::string& ca : {other.cert("ca"), std::string()}) {
        request.tls = *make_tls_context({.ca_file = ca, .cert_file = {}, .key_file = {}});
        const auto reply = ask(request);
        REQUIRE_FALSE(reply);
        CHECK(reply.error().kind == errc::unreachable);
        CHECK(reply.error().detail.find("TLS handshake") != std::string::npos);
        CHECK(server.requests().empty());
    }
}

TEST_CASE_METHOD(tls_fixture, "tls: a client certificate is shown where the server wants one", "[exchange][tls]") {
    certs.issue("client", "/O=pointsman", "DNS:agent");
    fake_server server([](const std::string&) { return answer{http_answer(200, "{}")}; }, "127.0.30.1",
                       server_context(true));
    auto request = request_to(server);
    request.tls = client();
    const auto without = ask(request);
    REQUIRE_FALSE(without);
    CHECK(without.error().kind == errc::unreachable);

    request.tls = *make_tls_context(
        {.ca_file = certs.cert("ca"), .cert_file = certs.cert("client"), .key_file = certs.key("client")});
    CHECK(ask(request));
}

TEST_CASE_METHOD(tls_fixture, "tls: an answer that ends with the connection must end with TLS", "[exchange][tls]") {
    using row = std::tuple<std::string, std::string, afterwards, bool>;
    auto [name, bytes, then, whole] = GENERATE(table<std::string, std::string, afterwards, bool>({
        row{"HTTP/1.0, closed in order, as Patroni does", "HTTP/1.0 200 OK\r\n\r\n{}", afterwards::close, true},
        row{"HTTP/1.0, cut", "HTTP/1.0 200 OK\r\n\r\n{}", afterwards::cut, false},
        row{"with a length, cut", http_answer(200, "{}"), afterwards::cut, true},
    }));
    CAPTURE(name);
    fake_server server(
        [bytes = bytes, then = then](const std::string&) {
            return answer{bytes, then};
        },
        "127.0.30.1", server_context());
    auto request = request_to(server);
    request.tls = client();
    const auto reply = ask(request);
    CHECK(reply.has_value() == whole);
}

TEST_CASE_METHOD(tls_fixture, "tls: HTTP/2 is not offered", "[exchange][tls]") {
    auto context = server_context();
    static bool offered = false;
    offered = false;
    SSL_CTX_set_alpn_select_cb(
        context->native_handle(),
        [](SSL*, const unsigned char**, unsigned char*, const unsigned char*, unsigned, void*) {
            offered = true;
            return SSL_TLSEXT_ERR_NOACK;
        },
        nullptr);
    fake_server server([](const std::string&) { return answer{http_answer(200, "{}")}; }, "127.0.30.1", context);
    auto request = request_to(server);
    request.tls = client();
    CHECK(ask(request));
    CHECK_FALSE(offered);
}

TEST_CASE_METHOD(tls_fixture, "tls: the handshake is bounded in time and can be cancelled", "[exchange][tls]") {
    asio::io_context context;
    tcp::acceptor silent(context, tcp::endpoint(asio::ip::make_address("127.0.30.1"), 0)); // accepts, never answers
    http_request request;
    request.ip = request.host = "127.0.30.1";
    request.port = silent.local_endpoint().port();
    request.tls = client();
    const auto reply = ask(request, 100ms);
    REQUIRE_FALSE(reply);
    CHECK(reply.error().kind == errc::timeout);

    running body(exchange_for_ever(request));
    tcp::socket accepted = silent.accept();
    REQUIRE(body.until([&accepted] { return accepted.available() > 0; }));
    CHECK(body.cancel());
}

TEST_CASE_METHOD(tls_fixture, "tls: files that cannot be used are named", "[exchange][tls]") {
    const std::string ca = certs.cert("ca");
    const std::string cert = certs.cert("server");
    const std::string missing = dir.path("missing");
    for (const auto& [files, culprit] : std::vector<std::pair<tls_files, std::string>>{
             {{missing, "", ""}, missing},
             {{ca, missing, certs.key("server")}, missing},
             {{ca, cert, missing}, missing},
             {{ca, cert, certs.key("ca")}, certs.key("ca")}, // the key of another certificate
             {{certs.key("ca"), "", ""}, certs.key("ca")}}) {
        const auto context = make_tls_context(files);
        CAPTURE(culprit);
        REQUIRE_FALSE(context);
        CHECK(context.error().kind == errc::unusable);
        CHECK(context.error().detail.find(culprit + ": ") == 0);
    }
}
