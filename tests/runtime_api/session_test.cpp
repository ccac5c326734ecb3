#include "runtime_api/session.hpp"

#include "../support/scratch_dir.hpp"
#include "answers.hpp"
#include "printers.hpp"
#include "run.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/system/system_error.hpp>

#include <catch2/catch.hpp>

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <vector>

using namespace pointsman::runtime_api;
using namespace pointsman::test;
using namespace std::chrono_literals;

namespace asio = boost::asio;
using local = asio::local::stream_protocol;

namespace {

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

enum class ending { close, close_at_once, stall, drip };

// What the fake HAProxy does with its one client.
struct script {
    std::vector<std::string> pieces; // each in a packet of its own
    ending end = ending::close;
};

// What the fake has seen.
struct witness {
    std::string line;
    bool client_left = false;
};

template<class Protocol>
asio::awaitable<void> play(typename Protocol::acceptor& acceptor, const script& s, witness& seen) {
    auto [accept_error, client] = co_await acceptor.async_accept(as_result);
    if (accept_error)
        co_return;
    if (s.end == ending::close_at_once)
        co_return;
    auto line = asio::dynamic_buffer(seen.line);
    auto [read_error, length] = co_await asio::async_read_until(client, line, '\n', as_result);
    if (read_error)
        co_return;

    asio::steady_timer pause(client.get_executor());
    for (const auto& piece : s.pieces) {
        auto [write_error, written] = co_await asio::async_write(client, asio::buffer(piece), as_result);
        if (write_error)
            co_return;
        pause.expires_after(1ms);
        co_await pause.async_wait(asio::use_awaitable);
    }
    boost::system::error_code gone;
    while (s.end == ending::drip && !gone) {
        auto [write_error, written] = co_await asio::async_write(client, asio::buffer("\n", 1), as_result);
        gone = write_error;
        pause.expires_after(5ms);
        co_await pause.async_wait(asio::use_awaitable);
    }
    if (s.end == ending::stall) {
        std::string more;
        auto rest = asio::dynamic_buffer(more);
        auto [end_error, size] = co_await asio::async_read(client, rest, as_result);
        gone = end_error;
    }
    seen.client_left = static_cast<bool>(gone);
}

template<class Protocol>
void start(asio::io_context& context, typename Protocol::acceptor& acceptor, const script& s, witness& seen) {
    asio::co_spawn(context, play<Protocol>(acceptor, s, seen), [](std::exception_ptr error) {
        if (error)
            std::rethrow_exception(error);
    });
}

// A HAProxy on a unix socket that follows a script, and a session to it.
struct fake_haproxy {
    explicit fake_haproxy(script what) : plan(std::move(what)) { start<local>(context, acceptor, plan, seen); }

    session client(std::chrono::milliseconds deadline = 5s, std::size_t max_reply = 1 << 20) const {
        return session({path, {}, 0}, {deadline, max_reply});
    }

    scratch_dir dir;
    std::string path = dir.path("s");
    script plan;
    witness seen;
    asio::io_context context{1};
    local::acceptor acceptor{context, local::endpoint(path)};
};

const std::vector<command> two{set_state{*slot_id::parse("primary", "pg1"), admin_state::maint},
                               shutdown_sessions{*slot_id::parse("primary", "pg1")}};

const std::string whole_answer =
    std::string(info_2_6) +
    servers_state("2 primary 1 pg1 10.0.0.1 2 4 1 1 0 1 0 0 6 0 0 0 slot.invalid 5432 - 0 8008 - - 8008\n");

} // namespace

TEST_CASE("session: an observation is one line and both dumps", "[session]") {
    fake_haproxy haproxy({{whole_answer}});

    const auto seen = run(haproxy.context, haproxy.client().observe());

    REQUIRE(seen);
    CHECK(haproxy.seen.line == "show info;show servers state\n");
    CHECK(seen->process.pid == 4883);
    REQUIRE(seen->slots.size() == 1);
    CHECK(to_string(*seen->slots[0].where) == "10.0.0.1:5432");
}

TEST_CASE("session: an answer may come in pieces", "[session]") {
    std::vector<std::string> pieces;
    for (std::size_t at = 0; at < whole_answer.size(); at += 50)
        pieces.push_back(whole_answer.substr(at, 50));
    fake_haproxy haproxy({pieces});

    const auto seen = run(haproxy.context, haproxy.client().observe());

    REQUIRE(seen);
    CHECK(seen->slots.size() == 1);
}

TEST_CASE("session: an answer that ends early is malformed, not a HAProxy without slots", "[session]") {
    const auto length = GENERATE(std::size_t{0}, std::size_t{20}, info_2_6.size(), whole_answer.size() - 1);
    CAPTURE(length);
    fake_haproxy haproxy({{whole_answer.substr(0, length)}});

    const auto seen = run(haproxy.context, haproxy.client().observe());

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::malformed);
    CHECK(seen.error().detail.starts_with("haproxy " + haproxy.path + ": show "));
}

TEST_CASE("session: an old worker is no one to observe", "[session]") {
    fake_haproxy haproxy(
        {{"Name: HAProxy\nVersion: 2.6.12\nPid: 7\nStopping: 1\n\n1\n", std::string(state_header), "\n\n"}});

    const auto seen = run(haproxy.context, haproxy.client().observe());

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::stopping);
    CHECK(seen.error().detail == "haproxy " + haproxy.path + ": process 7 is an old worker that is stopping");
}

TEST_CASE("session: commands go in one line and are answered by silence", "[session]") {
    fake_haproxy haproxy({{"\n", "\n"}});

    const auto done = run(haproxy.context, haproxy.client().execute(two));

    CHECK(done);
    CHECK(haproxy.seen.line == "set server primary/pg1 state maint;shutdown sessions server primary/pg1\n");
}

TEST_CASE("session: a refusal names HAProxy, the command and the answer", "[session]") {
    fake_haproxy haproxy({{"\nNo such server.\n\n"}});

    const auto done = run(haproxy.context, haproxy.client().execute(two));

    REQUIRE_FALSE(done);
    CHECK(done.error().kind == errc::refused);
    CHECK(done.error().detail ==
          "haproxy " + haproxy.path + ": `shutdown sessions server primary/pg1`: No such server.");
}

TEST_CASE("session: a HAProxy that dies half-way has not done what it was asked", "[session]") {
    fake_haproxy haproxy({{"\n"}});

    const auto done = run(haproxy.context, haproxy.client().execute(two));

    REQUIRE_FALSE(done);
    CHECK(done.error().kind == errc::refused);
}

TEST_CASE("session: statistics are the rows of the servers", "[session]") {
    fake_haproxy haproxy({{"# pxname,svname,scur,status,type,\npg,pg1,12,UP,2,\npg,BACKEND,12,UP,1,\n\n"}});

    const auto servers = run(haproxy.context, haproxy.client().statistics());

    REQUIRE(servers);
    CHECK(haproxy.seen.line == "show stat -1 4 -1\n");
    REQUIRE(servers->size() == 1);
    CHECK((*servers)[0].sessions == 12);
}

TEST_CASE("session: a HAProxy that does not answer costs the deadline and no more", "[session]") {
    fake_haproxy haproxy({{"Name: HAProxy\n"}, ending::stall});
    const auto begin = std::chrono::steady_clock::now();

    const auto seen = run(haproxy.context, haproxy.client(100ms).observe());

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::timeout);
    CHECK(seen.error().detail.starts_with("haproxy " + haproxy.path + ": no complete answer within 100 ms: "));
    CHECK(std::chrono::steady_clock::now() - begin >= 100ms);

    haproxy.context.restart();
    haproxy.context.run_for(5s);
    CHECK(haproxy.seen.client_left);
}

TEST_CASE("session: the deadline is for the whole answer, not for each byte of it", "[session]") {
    fake_haproxy haproxy({{}, ending::drip});
    const auto begin = std::chrono::steady_clock::now();

    const auto seen = run(haproxy.context, haproxy.client(100ms).observe());

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::timeout);
    CHECK(std::chrono::steady_clock::now() - begin < 5s);
}

TEST_CASE("session: an answer without end is dropped at the limit", "[session]") {
    // 3.2.0 and 3.4.0 answer a line of exactly 16384 bytes like that (facts 2).
    fake_haproxy haproxy({std::vector<std::string>(100, std::string(1000, 'x'))});

    const auto seen = run(haproxy.context, haproxy.client(5s, 20000).observe());

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::too_large);
    CHECK(seen.error().detail == "haproxy " + haproxy.path + ": the answer is longer than 20000 bytes");
}

TEST_CASE("session: an answer of exactly the limit is taken", "[session]") {
    fake_haproxy haproxy({{whole_answer}});

    const auto seen = run(haproxy.context, haproxy.client(5s, whole_answer.size()).observe());

    CHECK(seen);
}

TEST_CASE("session: a connection that is closed before the answer is no success", "[session]") {
    fake_haproxy haproxy({{}, ending::close_at_once});

    const auto done = run(haproxy.context, haproxy.client().execute(two));

    REQUIRE_FALSE(done);
    CHECK((done.error().kind == errc::unreachable || done.error().kind == errc::refused));
}

TEST_CASE("session: no socket there says where HAProxy is not", "[session]") {
    const scratch_dir dir;
    asio::io_context context(1);
    const session client({dir.path("admin.sock"), {}, 0});

    const auto seen = run(context, client.observe());

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::unreachable);
    CHECK(seen.error().detail == "haproxy " + dir.path("admin.sock") +
                                     ": no such file: HAProxy is not running, or its stats socket is elsewhere");
}

TEST_CASE("session: a socket that a dead HAProxy left refuses", "[session]") {
    const scratch_dir dir;
    asio::io_context context(1);
    local::acceptor(context, local::endpoint(dir.path("s"))).close();
    const session client({dir.path("s"), {}, 0});

    const auto seen = run(context, client.observe());

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::unreachable);
    CHECK(seen.error().detail == "haproxy " + dir.path("s") + ": connection refused: HAProxy is not running");
}

TEST_CASE("session: a socket with a full backlog is not taken for a connection", "[session]") {
    const scratch_dir dir;
    asio::io_context context(1);
    local::acceptor acceptor(context, local::endpoint(dir.path("s")));
    acceptor.listen(0);
    const local::endpoint where(dir.path("s"));
    std::vector<local::socket> waiting;
    int refusal = 0;
    while (refusal == 0 && waiting.size() < 100) {
        auto& next = waiting.emplace_back(context, local());
        next.native_non_blocking(true);
        // Not Asio's connect, which takes the refusal for a success.
        refusal = ::connect(next.native_handle(), where.data(), static_cast<socklen_t>(where.size())) == 0 ? 0 : errno;
    }
    REQUIRE(refusal == EAGAIN);
    const session client({dir.path("s"), {}, 0}, {.deadline = 500ms});

    const auto seen = run(context, client.observe());

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::unreachable);
    CHECK(seen.error().detail.find("nobody accepts the connection") != std::string::npos);
}

TEST_CASE("session: a path that no socket can have is a failure", "[session]") {
    asio::io_context context(1);
    const session client({"/tmp/" + std::string(200, 'x'), {}, 0});

    const auto seen = run(context, client.observe());

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::unreachable);
}

TEST_CASE("session: the socket may be TCP", "[session]") {
    asio::io_context context(1);
    asio::ip::tcp::acceptor acceptor(context, {asio::ip::make_address("127.0.31.2"), 0});
    const script plan{{whole_answer}};
    witness seen_by_fake;
    start<asio::ip::tcp>(context, acceptor, plan, seen_by_fake);
    const session client({"", "127.0.31.2", acceptor.local_endpoint().port()});

    const auto seen = run(context, client.observe());

    CHECK(seen);
    CHECK(seen_by_fake.line == "show info;show servers state\n");
    CHECK(to_string(client.target()) == "tcp://127.0.31.2:" + std::to_string(acceptor.local_endpoint().port()));
}

TEST_CASE("session: a TCP port where nobody listens refuses", "[session]") {
    asio::io_context context(1);
    const session client({"", "127.0.31.2", 1});

    const auto seen = run(context, client.observe());

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::unreachable);
    CHECK(seen.error().detail == "haproxy tcp://127.0.31.2:1: connection refused: HAProxy is not running");
}

TEST_CASE("session: names are not looked up", "[session]") {
    asio::io_context context(1);
    const session client({"", "localhost", 9999});

    const auto seen = run(context, client.observe());

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::unreachable);
    CHECK(seen.error().detail == "haproxy tcp://localhost:9999: not a numeric address");
}

TEST_CASE("session: a target is shown as it is configured", "[session]") {
    CHECK(to_string(socket_target{"/run/haproxy/admin.sock", {}, 0}) == "/run/haproxy/admin.sock");
    CHECK(to_string(socket_target{"", "::1", 9999}) == "tcp://[::1]:9999");
}

TEST_CASE("session: cancelling a call ends it at once and closes its connection", "[session]") {
    fake_haproxy haproxy({{"\n"}, ending::stall});
    const auto client = haproxy.client(10s);
    asio::cancellation_signal cancel;
    boost::system::error_code outcome;
    asio::co_spawn(haproxy.context, client.observe(),
                   asio::bind_cancellation_slot(cancel.slot(), [&outcome](std::exception_ptr error, const auto&) {
                       try {
                           if (error)
                               std::rethrow_exception(error);
                       } catch (const boost::system::system_error& e) {
                           outcome = e.code();
                       }
                   }));
    const auto begin = std::chrono::steady_clock::now();
    while (haproxy.seen.line.empty() && haproxy.context.run_one_for(5s) != 0) {
    }
    REQUIRE_FALSE(haproxy.seen.line.empty());

    cancel.emit(asio::cancellation_type::terminal);
    haproxy.context.run_for(5s);

    CHECK(outcome == asio::error::operation_aborted);
    CHECK(haproxy.seen.client_left);
    CHECK(std::chrono::steady_clock::now() - begin < 5s);
}
