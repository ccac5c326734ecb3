// The I/O parts of the agent that need neither etcd nor HAProxy.
#include "agent/api.hpp"
#include "agent/probe.hpp"
#include "agent/run_to_end.hpp"
#include "agent/task_group.hpp"
#include "etcd_http/exchange.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include <stdexcept>

using namespace pointsman;
using namespace std::chrono_literals;

namespace asio = boost::asio;

namespace {

const std::string here = "127.0.32.1"; // a loopback address of this suite's own

asio::awaitable<void> wait_for_ever(asio::io_context& context, int& ended) {
    asio::steady_timer timer(context, asio::steady_timer::time_point::max());
    try {
        co_await timer.async_wait(asio::use_awaitable);
    } catch (...) {
        ++ended;
        throw;
    }
}

asio::awaitable<void> receive_for_ever(asio::io_context& context, int& ended) {
    asio::experimental::channel<void(boost::system::error_code)> channel(context, 1);
    try {
        co_await channel.async_receive(asio::use_awaitable);
    } catch (...) {
        ++ended;
        throw;
    }
}

asio::awaitable<void> fail() {
    throw std::runtime_error("a bug");
    co_return;
}

asio::awaitable<void> cancel_and_wait(agent::task_group& tasks, int& waited) {
    tasks.cancel();
    co_await tasks.wait();
    ++waited;
}

// A port that was free a moment ago.
std::uint16_t free_port() {
    asio::io_context context;
    asio::ip::tcp::acceptor probe(context, {asio::ip::make_address(here), 0});
    return probe.local_endpoint().port();
}

struct exchange_of {
    std::string method{"GET"};
    std::string target;
};

asio::awaitable<void> ask(agent::task_group& server, std::uint16_t port, exchange_of what,
                          std::optional<etcd_http::http_reply>& reply) {
    etcd_http::http_request request;
    request.method = what.method;
    request.ip = request.host = here;
    request.port = port;
    request.target = what.target;
    auto answer = co_await etcd_http::exchange(request, 5s, 1 << 20);
    if (answer.has_value())
        reply = std::move(*answer);
    server.cancel();
    co_await server.wait();
}

// What the API answers to one request.
etcd_http::http_reply api_answer(exchange_of what) {
    asio::io_context context(1);
    const std::uint16_t port = free_port();
    agent::api api(context.get_executor(), config::listen_address{here, port},
                   {{"/api/v1/slots", {"application/json", [] { return std::string("[1]"); }}},
                    {"/metrics", {"text/plain; version=0.0.4", [] { return std::string("up 1\n"); }}},
                    {"/readyz", {"text/plain", [] { return agent::page_body("no\n", false); }}}},
                   {});
    agent::task_group server(context.get_executor());
    server.spawn(api.run());
    std::optional<etcd_http::http_reply> reply;
    agent::run_to_end(context, ask(server, port, std::move(what), reply));
    REQUIRE(reply);
    return *reply;
}

asio::awaitable<void> probe_into(agent::outcome& result, agent::probe_target target) {
    result = co_await agent::probe(target, 1s);
}

} // namespace

TEST_CASE("task group: cancelled tasks end, whatever they wait for, and are awaited", "[task_group]") {
    asio::io_context context(1);
    agent::task_group tasks(context.get_executor());
    int ended = 0;
    int waited = 0;
    tasks.spawn(wait_for_ever(context, ended));
    tasks.spawn(receive_for_ever(context, ended));
    context.poll();
    REQUIRE(ended == 0);
    agent::run_to_end(context, cancel_and_wait(tasks, waited));
    CHECK(ended == 2);
    CHECK(waited == 1);
}

TEST_CASE("task group: after a cancel nothing is started", "[task_group]") {
    asio::io_context context(1);
    agent::task_group tasks(context.get_executor());
    int ended = 0;
    tasks.cancel();
    tasks.spawn(wait_for_ever(context, ended));
    context.run();
    CHECK(ended == 0);
}

TEST_CASE("task group: what a task throws leaves the loop", "[task_group]") {
    asio::io_context context(1);
    agent::task_group tasks(context.get_executor());
    tasks.spawn(fail());
    CHECK_THROWS_WITH(context.run(), "a bug");
}

TEST_CASE("api: answers with its pages, and with nothing else", "[api]") {
    const auto slots = api_answer({.target = "/api/v1/slots"});
    CHECK(slots.status == 200);
    CHECK(slots.content_type == "application/json");
    CHECK(slots.body == "[1]");
    CHECK(api_answer({.target = "/metrics"}).content_type == "text/plain; version=0.0.4");
    CHECK(api_answer({.target = "/metrics"}).body == "up 1\n");
    CHECK(api_answer({.target = "/readyz"}).status == 503);
    CHECK(api_answer({.target = "/readyz"}).body == "no\n");
    CHECK(api_answer({.target = "/"}).status == 404);
    CHECK(api_answer({.target = "/"}).body == "not here; try /api/v1/slots /metrics /readyz\n");
    CHECK(api_answer({.method = "POST", .target = "/api/v1/slots"}).status == 405);
    CHECK(api_answer({.method = "HEAD", .target = "/api/v1/slots"}).body.empty());
}

namespace {

// What a stream brings until it has sent so many events; then this side leaves.
asio::awaitable<void> follow(agent::task_group& server, std::uint16_t port, std::size_t wanted, std::string& text) {
    const auto executor = co_await asio::this_coro::executor;
    asio::ip::tcp::socket socket(executor);
    const asio::ip::tcp::endpoint where(asio::ip::make_address(here), port);
    co_await socket.async_connect(where, asio::use_awaitable);
    const std::string request = "GET /live HTTP/1.1\r\nHost: x\r\n\r\n";
    co_await asio::async_write(socket, asio::buffer(request), asio::use_awaitable);
    const std::string end = fmt::format("event {}\n\n", wanted);
    co_await asio::async_read_until(socket, asio::dynamic_buffer(text, 4096), end, asio::use_awaitable);
    socket.close();
    server.cancel();
}

} // namespace

TEST_CASE("api: a stream goes on until the other side leaves, one event of several lines after the other", "[api]") {
    asio::io_context context(1);
    const std::uint16_t port = free_port();
    int asked = 0;
    agent::api api(context.get_executor(), config::listen_address{here, port}, {},
                   {{"/live", [&asked] { return fmt::format("[\nevent {}", ++asked); }}});
    agent::task_group server(context.get_executor());
    server.spawn(api.run());
    std::string text;
    agent::run_to_end(context, follow(server, port, 2, text));
    CHECK(text.starts_with("HTTP/1.1 200 OK\r\n"));
    CHECK(text.find("Content-Type: text/event-stream\r\n") != std::string::npos);
    CHECK(text.ends_with("\r\n\r\ndata: [\ndata: event 1\n\ndata: [\ndata: event 2\n\n"));
}

TEST_CASE("api: a port in use is told with its address", "[api]") {
    asio::io_context context(1);
    asio::ip::tcp::acceptor taken(context, {asio::ip::make_address(here), 0});
    const config::listen_address where{here, taken.local_endpoint().port()};
    CHECK_THROWS_WITH(agent::api(context.get_executor(), where, {}, {}), Catch::Contains("cannot listen on " + here));
}

TEST_CASE("probe: refused by both ports is a death, and says so", "[probe]") {
    asio::io_context context(1);
    agent::probe_target target;
    target.request.ip = target.request.host = here;
    target.request.port = free_port();
    target.request.target = "/master";
    target.postgres = runtime_api::address::parse(here, free_port());
    agent::outcome result;
    agent::run_to_end(context, probe_into(result, target));
    CHECK_FALSE(result.status);
    CHECK(result.postgres_open == false);
    CHECK(agent::judge(config::pool_role::primary, result) == agent::verdict{agent::answer::no, agent::refusal::dead});
}

TEST_CASE("probe: a silent REST API beside an open PostgreSQL port is not known", "[probe]") {
    asio::io_context context(1);
    asio::ip::tcp::acceptor postgres(context, {asio::ip::make_address(here), 0});
    agent::probe_target target;
    target.request.ip = target.request.host = here;
    target.request.port = free_port();
    target.request.target = "/master";
    target.postgres = runtime_api::address::parse(here, postgres.local_endpoint().port());
    agent::outcome result;
    agent::run_to_end(context, probe_into(result, target));
    CHECK(result.postgres_open == true);
    CHECK(agent::judge(config::pool_role::primary, result).what == agent::answer::unknown);
}
