#include "etcd_http/exchange.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/stream_traits.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/field.hpp>
#include <boost/beast/http/parser.hpp>

#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <algorithm>
#include <optional>

namespace pointsman::etcd_http {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

using asio::awaitable;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

// The most that is read, and given to a stream's reader, at a time.
constexpr std::size_t piece_size = std::size_t{16} * 1024;

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

std::string text_of(const http_request& request) {
    std::string text = request.method + ' ' + request.target +
                       " HTTP/1.1\r\nHost: " + host_and_port(request.host, request.port) +
                       "\r\nConnection: close\r\nUser-Agent: pointsman\r\n";
    for (const auto& [name, value] : request.headers)
        text.append(name).append(": ").append(value).append("\r\n");
    if (!request.body.empty())
        text += "Content-Length: " + std::to_string(request.body.size()) + "\r\n";
    return text + "\r\n" + request.body;
}

// An answer as it arrives: bytes in, status and body out. Beast's parser without Beast's I/O, whose templates take g++
// minutes for two kinds of connection.
class incoming {
public:
    // `reader` is null where the body is collected.
    incoming(const http_request& request, std::size_t max_body, const stream_reader* reader)
        : max_body_(max_body), reader_(reader) {
        parser_.eager(true);
        parser_.body_limit(boost::none); // counted in take(): a stream has none
        parser_.skip(request.method == "HEAD");
    }

    error_code put(std::string_view bytes) {
        pending_ += bytes;
        while (!pending_.empty() && !complete()) {
            auto& body = parser_.get().body();
            body.data = piece_.data();
            body.size = piece_.size();
            error_code ec;
            const std::size_t used = parser_.put(asio::buffer(pending_), ec);
            pending_.erase(0, used);
            // Before anything else: Beast says need_more also after it has taken a part of the body.
            if (!take(std::string_view(piece_).substr(0, piece_.size() - body.size)))
                return http::error::body_limit;
            if (ec == http::error::need_more) {
                // A chunk's extension or a trailer without end: Beast bounds neither, and throws on a field of 64 KiB.
                if (pending_.size() > piece_size)
                    return http::error::header_limit;
                return {};
            }
            if (ec && ec != http::error::need_buffer)
                return ec;
        }
        return {};
    }

    // The end of the connection: of the answer too where nothing else marks it.
    error_code put_end() {
        if (!parser_.got_some())
            return http::error::end_of_stream;
        error_code ec;
        parser_.put_eof(ec);
        return ec;
    }

    bool complete() const { return wish_ == stream_wish::stop || parser_.is_done(); }
    bool has_no_deadline() const { return wish_ == stream_wish::for_ever; }

    http_reply reply() {
        return {parser_.get().result_int(), std::string(parser_.get()[http::field::content_type]), std::move(body_)};
    }

private:
    bool take(std::string_view part) {
        if (reader_ && parser_.is_header_done() && parser_.get().result_int() == 200) {
            if (!part.empty())
                wish_ = (*reader_)(part);
            return true;
        }
        if (part.size() > max_body_ - body_.size())
            return false;
        body_ += part;
        return true;
    }

    std::size_t max_body_;
    const stream_reader* reader_;
    http::response_parser<http::buffer_body> parser_;
    std::string pending_; // read and not parsed yet
    std::string piece_ = std::string(piece_size, '\0');
    std::string body_;
    stream_wish wish_{stream_wish::in_time};
};

template<class Stream>
awaitable<result<http_reply>> converse(Stream& connection, const http_request& request, incoming& answer) {
    const std::string who = peer_name(request);
    const std::string text = text_of(request);
    auto [write_error, written] = co_await asio::async_write(connection, asio::buffer(text), as_result);
    if (write_error)
        co_return failed(who, "sending", write_error);
    std::string bytes(piece_size, '\0');
    while (!answer.complete()) {
        auto [read_error, size] = co_await connection.async_read_some(asio::buffer(bytes), as_result);
        // With TLS, an answer that ends with the connection is complete only where TLS says so (close_notify, which
        // Patroni sends): `stream truncated` stays an error, for half an answer could pass for a whole one.
        error_code ec = read_error;
        if (!read_error)
            ec = answer.put(std::string_view(bytes).substr(0, size));
        else if (read_error == asio::error::eof)
            ec = answer.put_end();
        if (ec)
            co_return failed(who, "reading", ec);
        if (answer.has_no_deadline())
            beast::get_lowest_layer(connection).expires_never();
    }
    co_return answer.reply();
}

// Returns the failure, if any; so does the next one.
awaitable<std::optional<failure>> connect(beast::tcp_stream& connection, const std::string& ip, std::uint16_t port,
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
    co_return std::nullopt;
}

awaitable<std::optional<failure>> handshake(tls_stream& connection, const http_request& request) {
    expect_peer(connection.native_handle(), request.host);
    auto [ec] = co_await connection.async_handshake(asio::ssl::stream_base::client, as_result);
    if (!ec)
        co_return std::nullopt;
    failure why = failed(peer_name(request), "TLS handshake", ec);
    const long verified = SSL_get_verify_result(connection.native_handle());
    if (verified != X509_V_OK)
        why.detail += std::string(": ") + X509_verify_cert_error_string(verified);
    co_return why;
}

awaitable<result<http_reply>> run(const http_request& request, std::chrono::milliseconds deadline, std::size_t max_body,
                                  const stream_reader* reader) {
    auto executor = co_await asio::this_coro::executor;
    const std::string who = peer_name(request);
    incoming answer(request, max_body, reader);
    // One deadline for every step: it is a point in time and stays until it is changed.
    beast::tcp_stream plain(executor);
    plain.expires_after(deadline);
    auto not_connected = co_await connect(plain, request.ip, request.port, who);
    if (not_connected)
        co_return *not_connected;
    if (reader)
        keep_alive(plain.socket());
    if (!request.tls)
        co_return co_await converse(plain, request, answer);
    tls_stream encrypted(std::move(plain), *request.tls);
    auto not_shaken = co_await handshake(encrypted, request);
    if (not_shaken)
        co_return *not_shaken;
    co_return co_await converse(encrypted, request, answer);
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
    auto not_connected = co_await connect(connection, ip, port, who);
    if (!not_connected)
        co_return true;
    if (not_connected->kind == errc::refused)
        co_return false;
    co_return *not_connected;
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
