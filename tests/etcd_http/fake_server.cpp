#include "fake_server.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/write.hpp>

#include <charconv>
#include <list>
#include <mutex>
#include <thread>

namespace pointsman::test {

namespace asio = boost::asio;

using asio::awaitable;
using asio::ip::tcp;

namespace {

// How many bytes the request at the start of `text` has in all; 0 while that is not known.
std::size_t whole_size(const std::string& text) {
    const std::size_t head = text.find("\r\n\r\n");
    if (head == text.npos)
        return 0;
    std::size_t length = 0;
    constexpr std::string_view name = "Content-Length: ";
    const std::size_t field = text.find(name);
    if (field < head)
        std::from_chars(text.data() + field + name.size(), text.data() + head, length);
    return head + 4 + length;
}

// Either kind of connection.
struct connection {
    explicit connection(tcp::socket s) : socket(std::move(s)) {}
    virtual ~connection() = default;
    virtual awaitable<void> begin() = 0;
    virtual awaitable<std::size_t> read(asio::mutable_buffer to) = 0;
    virtual awaitable<void> write(std::string bytes) = 0;
    virtual awaitable<void> end() = 0;

    tcp::socket socket;
    std::string request;
    bool kept{};
};

struct plain_connection : connection {
    using connection::connection;
    awaitable<void> begin() override { co_return; }
    awaitable<std::size_t> read(asio::mutable_buffer to) override {
        co_return co_await socket.async_read_some(to, asio::use_awaitable);
    }
    awaitable<void> write(std::string bytes) override {
        co_await asio::async_write(socket, asio::buffer(bytes), asio::use_awaitable);
    }
    awaitable<void> end() override { co_return; }
};

struct tls_connection : connection {
    tls_connection(tcp::socket s, asio::ssl::context& tls) : connection(std::move(s)), stream(socket, tls) {}
    awaitable<void> begin() override {
        co_await stream.async_handshake(asio::ssl::stream_base::server, asio::use_awaitable);
    }
    awaitable<std::size_t> read(asio::mutable_buffer to) override {
        co_return co_await stream.async_read_some(to, asio::use_awaitable);
    }
    awaitable<void> write(std::string bytes) override {
        co_await asio::async_write(stream, asio::buffer(bytes), asio::use_awaitable);
    }
    awaitable<void> end() override { co_await stream.async_shutdown(asio::use_awaitable); }

    asio::ssl::stream<tcp::socket&> stream;
};

} // namespace

struct fake_server::state {
    state(handler h, std::string at, std::shared_ptr<asio::ssl::context> t)
        : answer_to(std::move(h)), ip(std::move(at)), tls(std::move(t)),
          acceptor(context, tcp::endpoint(asio::ip::make_address(ip), 0)) {
        port = acceptor.local_endpoint().port();
        asio::co_spawn(context, accept(), [](std::exception_ptr) {}); // thrown when the acceptor is closed
        thread = std::jthread([this] { context.run(); });
    }

    awaitable<void> accept() {
        for (;;) {
            tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
            std::shared_ptr<connection> c;
            if (tls)
                c = std::make_shared<tls_connection>(std::move(socket), *tls);
            else
                c = std::make_shared<plain_connection>(std::move(socket));
            {
                const std::scoped_lock lock(mutex);
                connections.push_back(c);
            }
            asio::co_spawn(context, serve(c), [this, c](std::exception_ptr) {
                boost::system::error_code ignored;
                c->socket.close(ignored);
                const std::scoped_lock lock(mutex);
                connections.remove(c);
            });
        }
    }

    awaitable<void> serve(std::shared_ptr<connection> c) {
        co_await c->begin();
        std::string text;
        std::string piece(4096, '\0');
        while (whole_size(text) == 0 || text.size() < whole_size(text)) {
            const std::size_t size = co_await c->read(asio::buffer(piece));
            text.append(piece, 0, size);
        }
        {
            const std::scoped_lock lock(mutex);
            c->request = text;
            seen.push_back(text);
        }
        const answer what = answer_to(text);
        co_await c->write(what.bytes);
        if (what.then == afterwards::close)
            co_await c->end();
        if (what.then != afterwards::keep)
            co_return;
        {
            const std::scoped_lock lock(mutex);
            c->kept = true;
        }
        for (;;)
            co_await c->read(asio::buffer(piece));
    }

    awaitable<void> send(std::string text, std::string bytes, afterwards then) {
        const auto all = connections;
        for (const auto& c : all) {
            if (!c->kept || c->request.find(text) == c->request.npos)
                continue;
            try {
                co_await c->write(bytes);
                if (then != afterwards::keep)
                    c->socket.shutdown(tcp::socket::shutdown_both);
            } catch (const boost::system::system_error&) { // the client has gone
            }
        }
    }

    handler answer_to;
    std::string ip;
    std::shared_ptr<asio::ssl::context> tls;
    asio::io_context context{1};
    tcp::acceptor acceptor;
    std::uint16_t port{};
    mutable std::mutex mutex; // of what the test's thread reads
    std::vector<std::string> seen;
    std::list<std::shared_ptr<connection>> connections;
    std::jthread thread;
};

fake_server::fake_server(handler answer_to, std::string ip, std::shared_ptr<asio::ssl::context> tls)
    : state_(std::make_unique<state>(std::move(answer_to), std::move(ip), std::move(tls))) {}

fake_server::~fake_server() {
    asio::post(state_->context, [s = state_.get()] {
        s->acceptor.close();
        for (const auto& c : s->connections)
            c->socket.close();
    });
    state_->thread.join();
}

const std::string& fake_server::ip() const {
    return state_->ip;
}

std::uint16_t fake_server::port() const {
    return state_->port;
}

std::vector<std::string> fake_server::requests(std::string_view text) const {
    const std::scoped_lock lock(state_->mutex);
    std::vector<std::string> found;
    for (const std::string& request : state_->seen)
        if (request.find(text) != request.npos)
            found.push_back(request);
    return found;
}

std::size_t fake_server::kept(std::string_view text) const {
    const std::scoped_lock lock(state_->mutex);
    std::size_t count = 0;
    for (const auto& c : state_->connections)
        count += c->kept && c->request.find(text) != c->request.npos ? 1u : 0u;
    return count;
}

void fake_server::send_to_kept(std::string_view text, std::string bytes, afterwards then) {
    asio::co_spawn(state_->context, state_->send(std::string(text), std::move(bytes), then), asio::use_future).get();
}

std::string http_answer(int status, std::string_view body, std::string_view content_type) {
    return "HTTP/1.1 " + std::to_string(status) + " Some Reason\r\nContent-Type: " + std::string(content_type) +
           "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

std::string chunked_head() {
    return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
}

std::string chunk(std::string_view body) {
    char size[20];
    const auto [end, error] = std::to_chars(size, size + sizeof size, body.size(), 16);
    return std::string(size, end) + "\r\n" + std::string(body) + "\r\n";
}

} // namespace pointsman::test
