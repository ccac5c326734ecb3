#include "etcd_http/exchange.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/stream_traits.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <algorithm>

namespace pointsman::etcd_http {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

using asio::awaitable;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

// What one piece of an answer's body may hold; also the least by which a stream's reader is called.
constexpr std::size_t piece_size = 16 * 1024;

using tls_stream = asio::ssl::stream<beast::tcp_stream>;

bool is_numeric(const std::string& host) {
    error_code ec;
    asio::ip::make_address(host, ec);
    return !ec;
}

std::string host_and_port(const std::string& host, std::uint16_t port) {
    const std::string shown = host.find(':') == host.npos ? host : '[' + host + ']';
    return shown + ':' + std::to_string(port);
}

errc kind_of(const error_code& ec) {
    if (ec == beast::error::timeout || ec == asio::error::timed_out)
        return errc::timeout;
    if (ec == asio::error::connection_refused)
        return errc::refused;
    if (ec == http::error::body_limit || ec == http::error::header_limit || ec == http::error::buffer_overflow)
        return errc::too_large;
    if (ec == http::error::end_of_stream || ec == http::error::partial_message)
        return errc::unreachable;
    static const error_code of_http = http::error::bad_version;
    return ec.category() == of_http.category() ? errc::malformed : errc::unreachable;
}

// REQUIRES: `ec` is set. Throws where the exchange was cancelled: Beast's deadline has an error of its own.
failure failed(const std::string& who, const char* what, const error_code& ec) {
    if (ec == asio::error::operation_aborted)
        throw boost::system::system_error(ec);
    const errc kind = kind_of(ec);
    return {kind, who + ": " + what + ": " + (kind == errc::timeout ? "no answer in time" : ec.message())};
}

// Names in the certificate must match the host that was asked for, addresses an address in it.
void expect_peer(SSL* ssl, const std::string& host) {
    X509_VERIFY_PARAM* expected = SSL_get0_param(ssl);
    if (is_numeric(host)) { // never sent as SNI: RFC 6066
        X509_VERIFY_PARAM_set1_ip_asc(expected, host.c_str());
        return;
    }
    X509_VERIFY_PARAM_set_hostflags(expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    X509_VERIFY_PARAM_set1_host(expected, host.data(), host.size());
    // SSL_set_tlsext_host_name without its old-style cast.
    SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, const_cast<char*>(host.c_str()));
}

// A peer that is gone from the network, with nothing sent to it: found by the kernel after 10 + 3 x 3 s.
void keep_alive(tcp::socket& socket) {
    const auto set = [&socket](int level, int name, int value) {
        ::setsockopt(socket.native_handle(), level, name, &value, sizeof value);
    };
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
    set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
    set(IPPROTO_TCP, TCP_KEEPINTVL, 3);
    set(IPPROTO_TCP, TCP_KEEPCNT, 3);
    set(IPPROTO_TCP, TCP_USER_TIMEOUT, 20000);
}

http::request<http::string_body> message_of(const http_request& request) {
    http::request<http::string_body> message;
    message.method_string(request.method);
    message.target(request.target);
    message.set(http::field::host, host_and_port(request.host, request.port));
    message.set(http::field::connection, "close");
    message.set(http::field::user_agent, "pointsman");
    for (const auto& [name, value] : request.headers)
        message.set(name, value);
    message.body() = request.body;
    message.prepare_payload();
    return message;
}

// Sends the request and reads the answer. `reader` is null where the body is collected.
template<class Stream>
awaitable<result<http_reply>> converse(Stream& connection, const http_request& request, std::size_t max_body,
                                       const stream_reader* reader) {
    const std::string who = peer_name(request);
    const auto message = message_of(request);
    auto [write_error, written] = co_await http::async_write(connection, message, as_result);
    if (write_error)
        co_return failed(who, "sending", write_error);

    beast::flat_buffer buffer;
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(boost::none); // counted below: a stream has none
    parser.skip(request.method == "HEAD");
    auto [header_error, header_size] = co_await http::async_read_header(connection, buffer, parser, as_result);
    if (header_error)
        co_return failed(who, "reading", header_error);
    http_reply reply;
    reply.status = parser.get().result_int();
    reply.content_type = std::string(parser.get()[http::field::content_type]);

    const bool streamed = reader && reply.status == 200;
    std::string piece(piece_size, '\0');
    while (!parser.is_done()) {
        auto& body = parser.get().body();
        body.data = piece.data();
        body.size = piece.size();
        // An answer that ends with the connection is complete only where TLS says so (close_notify; Patroni sends it):
        // `stream truncated` is an error here, for what it cuts short could pass for a whole answer.
        auto [read_error, size] = co_await http::async_read_some(connection, buffer, parser, as_result);
        if (read_error && read_error != http::error::need_buffer)
            co_return failed(who, "reading", read_error);
        const auto got = std::string_view(piece).substr(0, piece.size() - body.size);
        if (!streamed) {
            if (got.size() > max_body - reply.body.size())
                co_return failure{errc::too_large, who + ": more than " + std::to_string(max_body) + " bytes"};
            reply.body += got;
        } else if (!got.empty()) {
            const stream_wish wish = (*reader)(got);
            if (wish == stream_wish::stop)
                break;
            if (wish == stream_wish::for_ever)
                beast::get_lowest_layer(connection).expires_never();
        }
    }
    co_return reply;
}

awaitable<result<void>> connect(beast::tcp_stream& connection, const std::string& ip, std::uint16_t port,
                                const std::string& who) {
    error_code bad_address;
    const auto address = asio::ip::make_address(ip, bad_address);
    if (bad_address)
        co_return failure{errc::unreachable, who + ": not a numeric address"};
    const tcp::endpoint endpoint(address, port);
    auto [ec] = co_await connection.async_connect(endpoint, as_result);
    if (ec)
        co_return failed(who, "connecting", ec);
    connection.socket().set_option(tcp::no_delay(true), ec);
    co_return result<void>();
}

awaitable<result<void>> handshake(tls_stream& connection, const http_request& request) {
    expect_peer(connection.native_handle(), request.host);
    auto [ec] = co_await connection.async_handshake(asio::ssl::stream_base::client, as_result);
    if (!ec)
        co_return result<void>();
    failure why = failed(peer_name(request), "TLS handshake", ec);
    const long verified = SSL_get_verify_result(connection.native_handle());
    if (verified != X509_V_OK)
        why.detail += std::string(": ") + X509_verify_cert_error_string(verified);
    co_return why;
}

awaitable<result<http_reply>> run(const http_request& request, std::chrono::milliseconds deadline,
                                  std::size_t max_body, const stream_reader* reader) {
    auto executor = co_await asio::this_coro::executor;
    const std::string who = peer_name(request);
    // One deadline for every step: it is a point in time and stays until it is changed.
    beast::tcp_stream plain(executor);
    plain.expires_after(deadline);
    auto connected = co_await connect(plain, request.ip, request.port, who);
    if (!connected)
        co_return connected.error();
    if (reader)
        keep_alive(plain.socket());
    if (!request.tls)
        co_return co_await converse(plain, request, max_body, reader);
    tls_stream encrypted(std::move(plain), *request.tls);
    auto shaken = co_await handshake(encrypted, request);
    if (!shaken)
        co_return shaken.error();
    co_return co_await converse(encrypted, request, max_body, reader);
}

} // namespace

std::string peer_name(const http_request& request) {
    const std::string where = host_and_port(request.host, request.port);
    return request.host == request.ip ? where : where + " (" + request.ip + ')';
}

awaitable<result<http_reply>> exchange(const http_request& request, std::chrono::milliseconds deadline,
                                       std::size_t max_body) {
    co_return co_await run(request, deadline, max_body, nullptr);
}

awaitable<result<http_reply>> stream(const http_request& request, std::chrono::milliseconds deadline,
                                     std::size_t max_body, const stream_reader& reader) {
    co_return co_await run(request, deadline, max_body, &reader);
}

awaitable<result<bool>> port_open(const std::string& ip, std::uint16_t port, std::chrono::milliseconds deadline) {
    auto executor = co_await asio::this_coro::executor;
    const std::string who = host_and_port(ip, port);
    beast::tcp_stream connection(executor);
    connection.expires_after(deadline);
    auto connected = co_await connect(connection, ip, port, who);
    if (connected)
        co_return true;
    if (connected.error().kind == errc::refused)
        co_return false;
    co_return connected.error();
}

awaitable<result<std::vector<std::string>>> resolve(const std::string& host) {
    if (is_numeric(host))
        co_return std::vector<std::string>{host};
    auto executor = co_await asio::this_coro::executor;
    tcp::resolver resolver(executor);
    auto [ec, found] = co_await resolver.async_resolve(host, std::string(), as_result);
    if (ec)
        co_return failed(host, "looking up", ec);
    std::vector<std::string> addresses;
    for (const auto& entry : found) {
        std::string address = entry.endpoint().address().to_string();
        if (std::ranges::find(addresses, address) == addresses.end())
            addresses.push_back(std::move(address));
    }
    co_return addresses;
}

} // namespace pointsman::etcd_http
