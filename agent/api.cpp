#include "agent/api.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>

#include <fmt/format.h>

#include <stdexcept>

namespace pointsman::agent {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using namespace std::chrono_literals;

namespace {

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr auto connection_deadline = 5s;
constexpr int most_connections = 32;
constexpr int most_streams = 8;
constexpr auto stream_interval = 500ms;
constexpr auto longest_stream = 10min;
constexpr std::uint32_t largest_head = 8192;
// The status page brings its own style and script, asks nobody but us, and can turn no text into HTML (R13).
constexpr const char* policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                               "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                               "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

std::string paths(const pages& served) {
    std::string text;
    for (const auto& [path, page] : served)
        text += ' ' + path;
    return text;
}

http::response<http::string_body> answer(const http::request<http::empty_body>& request, const pages& served) {
    http::response<http::string_body> response;
    response.version(request.version());
    response.keep_alive(false);
    response.set(http::field::content_type, "text/plain");
    if (request.method() != http::verb::get && request.method() != http::verb::head) {
        response.result(http::status::method_not_allowed);
        response.set(http::field::allow, "GET, HEAD");
        response.body() = "only GET and HEAD\n";
    } else if (const auto it = served.find(std::string(request.target())); it != served.end()) {
        page_body body = it->second.body();
        response.result(body.well ? http::status::ok : http::status::service_unavailable);
        response.set(http::field::content_type, it->second.content_type);
        response.set(http::field::cache_control, "no-store");
        response.set("Content-Security-Policy", policy);
        response.set("X-Content-Type-Options", "nosniff");
        response.set("Referrer-Policy", "no-referrer");
        response.body() = std::move(body.text);
    } else {
        response.result(http::status::not_found);
        response.body() = "not here; try" + paths(served) + '\n';
    }
    response.content_length(response.body().size());
    if (request.method() == http::verb::head)
        response.body().clear();
    return response;
}

// A text of several lines is one event all the same.
std::string sse_event(const std::string& text) {
    std::string result = "data: ";
    for (const char c : text) {
        result += c;
        if (c == '\n')
            result += "data: ";
    }
    return result + "\n\n";
}

} // namespace

struct api::listener {
    listener(const asio::any_io_executor& ex, const tcp::endpoint& where) : acceptor(ex, where) {}

    // One connection: read the request, answer, close. Owns its place in the count.
    asio::awaitable<void> serve(tcp::socket socket, const pages& served, const streams& live) {
        beast::tcp_stream stream(std::move(socket));
        stream.expires_after(connection_deadline);
        beast::flat_buffer buffer;
        http::request_parser<http::empty_body> parser;
        parser.header_limit(largest_head);
        auto [read_error, read] = co_await http::async_read(stream, buffer, parser, as_result);
        static_cast<void>(read);
        if (!read_error) {
            const auto& request = parser.get();
            const auto source = live.find(std::string(request.target()));
            if (source != live.end() && request.method() == http::verb::get && open_streams < most_streams) {
                ++open_streams;
                co_await feed(stream, source->second);
                --open_streams;
            } else {
                auto response = answer(request, served);
                auto [write_error, written] = co_await http::async_write(stream, response, as_result);
                static_cast<void>(write_error);
                static_cast<void>(written);
            }
            beast::error_code ignored;
            stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
        }
        --connections;
    }

    // Until the other side is gone.
    asio::awaitable<void> feed(beast::tcp_stream& stream, const std::function<std::string()>& source) {
        http::response<http::empty_body> head;
        head.keep_alive(false);
        head.set(http::field::content_type, "text/event-stream");
        head.set(http::field::cache_control, "no-store");
        http::response_serializer<http::empty_body> serializer(head);
        auto [head_error, head_size] = co_await http::async_write_header(stream, serializer, as_result);
        static_cast<void>(head_size);
        if (head_error)
            co_return;
        asio::steady_timer timer(acceptor.get_executor());
        const auto end = asio::steady_timer::clock_type::now() + longest_stream;
        while (asio::steady_timer::clock_type::now() < end) {
            const std::string text = sse_event(source());
            stream.expires_after(connection_deadline);
            auto [error, size] = co_await asio::async_write(stream, asio::buffer(text), as_result);
            static_cast<void>(size);
            if (error)
                co_return;
            timer.expires_after(stream_interval);
            co_await timer.async_wait(asio::use_awaitable);
        }
    }

    tcp::acceptor acceptor;
    int connections{};
    int open_streams{};
};

api::api(const asio::any_io_executor& executor, const config::listen_address& where, pages served, streams live)
    : served_(std::move(served)), live_(std::move(live)), tasks_(executor) {
    const auto host =
        where.host.empty() ? asio::ip::address(asio::ip::address_v6::any()) : asio::ip::make_address(where.host);
    try {
        listener_ = std::make_unique<listener>(executor, tcp::endpoint(host, where.port));
    } catch (const boost::system::system_error& e) {
        throw std::runtime_error(
            fmt::format("listen: cannot listen on {}:{}: {}", where.host, where.port, e.code().message()));
    }
}

api::~api() = default;

asio::awaitable<void> api::run() {
    tasks_.spawn(accept_loop());
    co_await tasks_.wait();
}

asio::awaitable<void> api::accept_loop() {
    asio::steady_timer timer(listener_->acceptor.get_executor());
    for (;;) {
        auto [error, socket] = co_await listener_->acceptor.async_accept(as_result);
        if (error == asio::error::operation_aborted)
            co_return;
        if (error || listener_->connections >= most_connections) {
            // Out of descriptors, or too many at once: the socket closes here, and the next one waits a moment.
            timer.expires_after(100ms);
            co_await timer.async_wait(asio::use_awaitable);
            continue;
        }
        ++listener_->connections;
        tasks_.spawn(listener_->serve(std::move(socket), served_, live_));
    }
}

} // namespace pointsman::agent
