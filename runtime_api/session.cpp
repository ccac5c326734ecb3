#include "runtime_api/session.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/system/system_error.hpp>

#include <sys/un.h>

#include <utility>

namespace pointsman::runtime_api {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using boost::system::error_code;
using unix_stream = beast::basic_stream<asio::local::stream_protocol>;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

// What an error on the way means to whoever reads the log at three in the morning.
failure describe(error_code error, std::chrono::milliseconds deadline) {
    if (error == beast::error::timeout)
        return {errc::timeout, "no complete answer within " + std::to_string(deadline.count()) +
                                   " ms: HAProxy hangs, or others hold all connections of its stats socket "
                                   "(`stats maxconn`, 10 unless configured)"};
    if (error == boost::system::errc::no_such_file_or_directory)
        return {errc::unreachable, "no such file: HAProxy is not running, or its stats socket is elsewhere"};
    if (error == asio::error::connection_refused)
        return {errc::unreachable, "connection refused: HAProxy is not running"};
    if (error == boost::system::errc::permission_denied)
        return {errc::unreachable, "permission denied: the `mode`, `user` and `group` of HAProxy's `stats socket` line "
                                   "decide who may use it"};
    // Linux refuses a unix socket with a full backlog at once; Asio takes that for a connection in progress.
    if (error == asio::error::not_connected)
        return {errc::unreachable, "nobody accepts the connection: HAProxy hangs, or too many others wait for it"};
    return {errc::unreachable, error.message()};
}

// One exchange on a stream that is not yet connected. The deadline is set once, so it bounds all of it.
template<class Stream, class Endpoint>
asio::awaitable<result<std::string>> converse(Stream& stream, const Endpoint& peer, const std::string& line,
                                              std::chrono::milliseconds deadline, std::size_t max_reply) {
    std::string reply;
    stream.expires_after(deadline);
    auto [error] = co_await stream.async_connect(peer, as_result);
    if (!error) {
        auto [write_error, written] = co_await asio::async_write(stream, asio::buffer(line), as_result);
        error = write_error;
    }
    if (!error) {
        auto buffer = asio::dynamic_buffer(reply, max_reply + 1);
        auto [read_error, read] = co_await asio::async_read(stream, buffer, as_result);
        error = read_error;
    }

    if (error == asio::error::operation_aborted)
        throw boost::system::system_error(error);
    if (!error)
        co_return failure{errc::too_large, "the answer is longer than " + std::to_string(max_reply) + " bytes"};
    if (error != asio::error::eof)
        co_return describe(error, deadline);
    co_return reply;
}

template<class T>
result<T> about(const socket_target& target, result<T> outcome) {
    if (!outcome)
        return failure{outcome.error().kind, "haproxy " + to_string(target) + ": " + outcome.error().detail};
    return outcome;
}

} // namespace

std::string to_string(const socket_target& target) {
    if (!target.path.empty())
        return target.path;
    const bool is_v6 = target.host.find(':') != std::string::npos;
    return "tcp://" + (is_v6 ? '[' + target.host + ']' : target.host) + ':' + std::to_string(target.port);
}

session::session(socket_target target, std::chrono::milliseconds deadline, std::size_t max_reply)
    : target_(std::move(target)), deadline_(deadline), max_reply_(max_reply) {}

asio::awaitable<result<observation>> session::observe() const {
    auto reply = co_await exchange("show info;show servers state\n");
    if (!reply)
        co_return reply.error();
    co_return about(target_, parse_observation(*reply));
}

asio::awaitable<result<std::vector<server_statistics>>> session::statistics() const {
    auto reply = co_await exchange("show stat\n");
    if (!reply)
        co_return reply.error();
    co_return about(target_, parse_stat(*reply));
}

asio::awaitable<result<void>> session::execute(std::span<const command> batch) const {
    auto reply = co_await exchange(render_line(batch));
    if (!reply)
        co_return reply.error();
    co_return about(target_, check_reply(batch, *reply));
}

asio::awaitable<result<std::string>> session::exchange(std::string line) const {
    using path_text = decltype(sockaddr_un::sun_path);
    const auto executor = co_await asio::this_coro::executor;
    if (!target_.path.empty()) {
        if (target_.path.size() >= sizeof(path_text))
            co_return about<std::string>(target_, failure{errc::unreachable, "the path is too long for a socket"});
        unix_stream stream(executor);
        const asio::local::stream_protocol::endpoint peer(target_.path);
        auto reply = co_await converse(stream, peer, line, deadline_, max_reply_);
        co_return about(target_, std::move(reply));
    }

    error_code error;
    const auto host = asio::ip::make_address(target_.host, error);
    if (error)
        co_return about<std::string>(target_, failure{errc::unreachable, "not a numeric address"});
    beast::tcp_stream stream(executor);
    const asio::ip::tcp::endpoint peer(host, target_.port);
    auto reply = co_await converse(stream, peer, line, deadline_, max_reply_);
    co_return about(target_, std::move(reply));
}

} // namespace pointsman::runtime_api
