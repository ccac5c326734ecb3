// deploy/hold.lua in the real HAProxy (R11).
#include "../support/wait_until.hpp"
#include "haproxy_process.hpp"
#include "printers.hpp"
#include "run.hpp"
#include "runtime_api/session.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include <catch2/catch.hpp>

#include <poll.h>

#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

using namespace pointsman::runtime_api;
using namespace pointsman::test;
using namespace std::chrono_literals;

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using clock_type = std::chrono::steady_clock;

namespace {

const std::string no_lua;

// hold.lua with another bound than 39 s.
std::string hold_lua(const scratch_dir& dir, const std::string& seconds) {
    const std::string line = "\nlocal bound = 39\n";
    auto text = read_text(HOLD_LUA);
    const auto at = text.find(line);
    REQUIRE(at != std::string::npos);
    text.replace(at, line.size(), "\nlocal bound = " + seconds + "\n");
    write_text(dir.path("hold.lua"), text);
    return dir.path("hold.lua");
}

bool readable(int fd) {
    pollfd one{fd, POLLIN, 0};
    return ::poll(&one, 1, 10'000) == 1;
}

// What the client reads first; empty: the connection was closed.
std::string first_words(tcp::socket& client, std::size_t most = 7) {
    if (!readable(client.native_handle()))
        return "nothing in time";
    std::string text(most, '\0');
    boost::system::error_code error;
    text.resize(client.read_some(asio::buffer(text), error));
    return text;
}

// The hold as `pointsman haproxy-config` prints it, and what follows the pool.
std::string hold_lines(const std::string& bound) {
    std::string text = "    server hold 127.0.0.1:1 backup maxconn 2000000\n    retries 40\n    option redispatch 1\n";
    if (bound != no_lua)
        text += "    tcp-request inspect-delay 40s\n"
                "    tcp-request content lua.hold primary if { be_conn_free(primary) ge 1000000 }\n"
                "    use_backend primary_anew if { stopping } { be_conn_free(primary) ge 1000000 }\n";
    return text;
}

// A pool with its hold, and two slots in maint, the first of which has the address of `server`. Each test has an `ip`
// of its own.
struct held_pool {
    held_pool(const std::string& ip, const std::string& bound)
        : front(asio::ip::make_address(ip), 5000),
          configuration(haproxy_process::preamble(dir) +
                        (bound == no_lua ? "" : "global\n    lua-load " + hold_lua(dir, bound)) +
                        "\nlisten primary\n    bind " + ip + ":5000\n" + hold_lines(bound) +
                        "    server-template pg 1-2 slot.invalid:1 init-addr last,127.0.0.1 disabled\n" +
                        "backend primary_anew\n    server self " + ip + ":5000\n"),
          haproxy(dir, configuration), server(context, tcp::endpoint(front.address(), 0)),
          control({haproxy.socket(), {}, 0}) {
        execute(set_address{slot, *address::parse(ip, server.local_endpoint().port())});
    }

    void execute(const command& c) {
        const std::vector<command> batch{c};
        REQUIRE(run(context, control.execute(batch)));
    }

    // As with PostgreSQL, the client speaks first.
    tcp::socket connect() {
        tcp::socket client(context);
        client.connect(front);
        asio::write(client, asio::buffer("hello", 5));
        return client;
    }

    std::vector<tcp::socket> connect(std::size_t count) {
        std::vector<tcp::socket> clients;
        while (clients.size() != count)
            clients.push_back(connect());
        return clients;
    }

    std::string ask(std::string line) {
        line += '\n';
        asio::local::stream_protocol::socket stats(context);
        stats.connect(haproxy.socket());
        asio::write(stats, asio::buffer(line));
        std::string answer;
        boost::system::error_code eof;
        asio::read(stats, asio::dynamic_buffer(answer), eof);
        return answer;
    }

    // Connections that HAProxy has accepted and not closed, except those to its stats socket.
    std::string connections() {
        const std::string info = ask("show info");
        const std::string key = "\nCurrConns: ";
        const auto at = info.find(key) + key.size();
        return info.substr(at, info.find('\n', at) - at);
    }

    // Connections that the pool's servers have refused.
    int refused() {
        const std::string stat = ask("show stat primary 4 -1 typed");
        int sum = 0;
        for (std::size_t at = 0; (at = stat.find(".wretr.", at)) != stat.npos;)
            sum += std::stoi(stat.substr(at = stat.find(":u64:", at) + 5));
        return sum;
    }

    // Accepts and greets connections until there have been `count`, or none comes any more.
    std::size_t serve(std::size_t count) {
        while (sessions.size() != count && readable(server.native_handle())) {
            sessions.push_back(server.accept());
            asio::write(sessions.back(), asio::buffer("welcome", 7));
        }
        return sessions.size();
    }

    const slot_id slot = *slot_id::parse("primary", "pg1");
    const slot_id other = *slot_id::parse("primary", "pg2");
    const scratch_dir dir;
    tcp::endpoint front;
    const std::string configuration;
    haproxy_process haproxy;
    asio::io_context context{1};
    tcp::acceptor server;
    session control;
    std::vector<tcp::socket> sessions; // accepted by `server`
};

} // namespace

TEST_CASE("hold: connections opened while no slot is usable are served when one is", "[hold]") {
    held_pool pool("127.0.31.40", "39");
    auto clients = pool.connect(4);
    REQUIRE(wait_until([&pool] { return pool.connections() == "4"; }));

    pool.execute(set_state{pool.slot, admin_state::ready});
    const auto ready = clock_type::now();

    CHECK(pool.serve(4) == 4);
    CHECK(clock_type::now() - ready < 1s); // a step is 10 ms
    for (auto& client : clients)
        CHECK(first_words(client) == "welcome");
}

TEST_CASE("hold: two hundred connections wait together and none is lost", "[hold]") {
    held_pool pool("127.0.31.41", "39");
    auto clients = pool.connect(200);
    REQUIRE(wait_until([&pool] { return pool.connections() == "200"; }));

    pool.execute(set_state{pool.slot, admin_state::ready});
    const auto ready = clock_type::now();

    CHECK(pool.serve(200) == 200);
    CHECK(clock_type::now() - ready < 2s);
    for (auto& client : clients)
        REQUIRE(first_words(client) == "welcome");
    CHECK(pool.haproxy.log().find("Lua") == std::string::npos);
}

TEST_CASE("hold: what the clients say while they are held reaches the server", "[hold]") {
    held_pool pool("127.0.31.42", "39");
    auto client = pool.connect();
    REQUIRE(wait_until([&pool] { return pool.connections() == "1"; }));
    asio::write(client, asio::buffer(", world", 7));

    pool.execute(set_state{pool.slot, admin_state::ready});

    REQUIRE(pool.serve(1) == 1);
    std::string heard(12, '\0');
    REQUIRE(readable(pool.sessions[0].native_handle()));
    asio::read(pool.sessions[0], asio::buffer(heard));
    CHECK(heard == "hello, world");
}

TEST_CASE("hold: a host that stalls HAProxy makes it forget no connection", "[hold]") {
    held_pool pool("127.0.31.43", "39");
    auto clients = pool.connect(200);
    REQUIRE(wait_until([&pool] { return pool.connections() == "200"; }));

    // Longer than a step each time: with core.msleep() instead of act.wake_time(), some of these wake-ups were lost.
    for (int i = 0; i != 50; ++i) {
        ::kill(pool.haproxy.pid(), SIGSTOP);
        std::this_thread::sleep_for(15ms);
        ::kill(pool.haproxy.pid(), SIGCONT);
        std::this_thread::sleep_for(5ms);
    }
    pool.execute(set_state{pool.slot, admin_state::ready});

    CHECK(pool.serve(200) == 200);
}

TEST_CASE("hold: a client that goes away is held no longer", "[hold]") {
    held_pool pool("127.0.31.44", "39");
    auto clients = pool.connect(50);
    REQUIRE(wait_until([&pool] { return pool.connections() == "50"; }));

    clients.erase(clients.begin() + 1, clients.end());

    CHECK(wait_until([&pool] { return pool.connections() == "1"; }, 2s));
    pool.execute(set_state{pool.slot, admin_state::ready});
    CHECK(pool.serve(1) == 1);
    CHECK(first_words(clients[0]) == "welcome");
}

TEST_CASE("hold: when the time is up, the client is told in PostgreSQL's own words", "[hold]") {
    held_pool pool("127.0.31.45", "1");
    const auto opened = clock_type::now();
    auto client = pool.connect();

    const std::string fields = std::string("SFATAL\0VFATAL\0C57P03\0M", 22) +
                               "no usable server in pool primary within 1 s" + std::string(2, '\0');
    CHECK(first_words(client, 1000) == "E" + std::string("\0\0\0", 3) + char(fields.size() + 4) + fields);

    CHECK(clock_type::now() - opened >= 1s);
    CHECK(clock_type::now() - opened < 5s);
    CHECK(first_words(client).empty());
    CHECK(pool.haproxy.log().find("Lua") == std::string::npos);
}

TEST_CASE("hold: what a dead server refused is served by the next one", "[hold]") {
    const auto [ip, bound] =
        GENERATE(table<std::string, std::string>({{"127.0.31.47", "39"}, {"127.0.31.48", no_lua}}));
    held_pool pool(ip, bound);
    pool.execute(set_address{pool.other, *address::parse(ip, 1)}); // nobody listens there
    pool.execute(set_state{pool.other, admin_state::ready});
    auto clients = pool.connect(3);
    REQUIRE(wait_until([&pool] { return pool.refused() >= 3; }));

    pool.execute(set_state{pool.other, admin_state::maint});
    REQUIRE(wait_until([&pool] { return pool.refused() >= 6; }, 5s)); // now on `hold`
    pool.execute(set_state{pool.slot, admin_state::ready});

    CHECK(pool.serve(3) == 3);
    for (auto& client : clients)
        CHECK(first_words(client) == "welcome");
}

TEST_CASE("hold: without Lua, connections wait in retries", "[hold]") {
    held_pool pool("127.0.31.49", no_lua);
    auto clients = pool.connect(20);
    REQUIRE(wait_until([&pool] { return pool.refused() >= 20; }));

    pool.execute(set_state{pool.slot, admin_state::ready});
    const auto ready = clock_type::now();

    CHECK(pool.serve(20) == 20);
    CHECK(clock_type::now() - ready < 3s); // a step is 1 s
    for (auto& client : clients)
        CHECK(first_words(client) == "welcome");
}

TEST_CASE("hold: a reload takes those that wait along, in what they have said already", "[hold]") {
    held_pool pool("127.0.31.51", "39");
    auto clients = pool.connect(20);
    REQUIRE(wait_until([&pool] { return pool.connections() == "20"; }));

    const haproxy_process next(pool.dir, pool.configuration, &pool.haproxy);
    REQUIRE(wait_until([&pool] { return pool.connections() == "20"; })); // in the new process
    pool.execute(set_address{pool.slot, *address::parse("127.0.31.51", pool.server.local_endpoint().port())});
    pool.execute(set_state{pool.slot, admin_state::ready});

    CHECK(pool.serve(20) == 20);
    for (auto& client : clients)
        CHECK(first_words(client) == "welcome");
    std::string heard(5, '\0');
    REQUIRE(readable(pool.sessions[0].native_handle()));
    asio::read(pool.sessions[0], asio::buffer(heard));
    CHECK(heard == "hello");
}

TEST_CASE("hold: limits on the slots do not look like a pool without slots", "[hold]") {
    held_pool pool("127.0.31.50", "39");
    pool.execute(set_state{pool.slot, admin_state::ready});
    CHECK(pool.ask("set maxconn server primary/pg1 5000") == "\n");

    auto client = pool.connect();

    CHECK(pool.serve(1) == 1);
    CHECK(first_words(client) == "welcome");
}

TEST_CASE("hold: with a usable slot nothing waits", "[hold]") {
    held_pool pool("127.0.31.46", "39");
    pool.execute(set_state{pool.slot, admin_state::ready});

    auto client = pool.connect();

    CHECK(pool.serve(1) == 1);
    CHECK(first_words(client) == "welcome");
}
