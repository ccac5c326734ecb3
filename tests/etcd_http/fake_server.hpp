// A TCP server for tests, on a thread of its own: it reads one HTTP request from each connection, answers with the
// bytes that the test's handler gives, and then closes, cuts or keeps the connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace boost::asio::ssl {
class context;
}

namespace pointsman::test {

enum class afterwards {
    close, // in order: with TLS, a close_notify
    cut,   // with TLS, without a close_notify
    keep,  // until the client goes, or the server's end
};

struct answer {
    std::string bytes;
    afterwards then{afterwards::close};
};

class fake_server {
public:
    // Called on the server's thread with the whole request.
    using handler = std::function<answer(const std::string& request)>;

    // `tls` is null for plain TCP.
    explicit fake_server(handler answer_to, std::string ip = "127.0.30.1",
                         std::shared_ptr<boost::asio::ssl::context> tls = nullptr);
    ~fake_server();
    fake_server(const fake_server&) = delete;
    fake_server& operator=(const fake_server&) = delete;

    const std::string& ip() const;
    std::uint16_t port() const;

    // Requests so far that contain `text`.
    std::vector<std::string> requests(std::string_view text = {}) const;

    // Connections kept open whose request contained `text`.
    std::size_t kept(std::string_view text = {}) const;

    // Sends more to those connections, and closes them where `then` says so. Waits until it is done.
    void send_to_kept(std::string_view text, std::string bytes, afterwards then = afterwards::keep);

private:
    struct state;
    std::unique_ptr<state> state_;
};

// An HTTP/1.1 answer with a body and its length.
std::string http_answer(int status, std::string_view body, std::string_view content_type = "application/json");

// The head of an answer whose body comes in chunks, and one chunk.
std::string chunked_head();
std::string chunk(std::string_view body);

} // namespace pointsman::test
