#include "runtime_api/exchange.hpp"

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
                                              const exchange_limits& limits, last_word whose) {
    std::string reply;
    stream.expires_after(limits.deadline);
    auto [error] = co_await stream.async_connect(peer, as_result);
    if (!error) {
        auto [write_error, written] = co_await asio::async_write(stream, asio::buffer(line), as_result);
        error = write_error;
    }
    if (!error && whose == last_word::client)
        stream.socket().shutdown(asio::socket_base::shutdown_send, error);
    if (!error) {
        auto buffer = asio::dynamic_buffer(reply, limits.max_reply + 1);
        auto [read_error, read] = co_await asio::async_read(stream, buffer, as_result);
        error = read_error;
    }

    if (error == asio::error::operation_aborted)
        throw boost::system::system_error(error);
    if (!error)
        co_return failure{errc::too_large, "the answer is longer than " + std::to_string(limits.max_reply) + " bytes"};
    if (error != asio::error::eof)
        co_return describe(error, limits.deadline);
    co_return reply;
}

} // namespace

std::string to_string(const socket_target& target) {
    if (!target.path.empty())
        return target.path;
    const bool is_v6 = target.host.find(':') != std::string::npos;
    return "tcp://" + (is_v6 ? '[' + target.host + ']' : target.host) + ':' + std::to_string(target.port);
}

asio::awaitable<result<std::string>> exchange(const socket_target& target, std::string line,
                                              const exchange_limits& limits, last_word whose) {
    using path_text = decltype(sockaddr_un::sun_path);
    const auto executor = co_await asio::this_coro::executor;
    if (!target.path.empty()) {
        if (target.path.size() >= sizeof(path_text))
            co_return about<std::string>(target, failure{errc::unreachable, "the path is too long for a socket"});
        unix_stream stream(executor);
        const asio::local::stream_protocol::endpoint peer(target.path);
        auto reply = co_await converse(stream, peer, line, limits, whose);
        co_return about(target, std::move(reply));
    }

    error_code error;
    const auto host = asio::ip::make_address(target.host, error);
    if (error)
        co_return about<std::string>(target, failure{errc::unreachable, "not a numeric address"});
    beast::tcp_stream stream(executor);
    const asio::ip::tcp::endpoint peer(host, target.port);
    auto reply = co_await converse(stream, peer, line, limits, whose);
    co_return about(target, std::move(reply));
}

} // namespace pointsman::runtime_api
