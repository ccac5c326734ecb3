#include "agent/ask_daemon.hpp"

#include "etcd_http/exchange.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <utility>

namespace pointsman::agent {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using etcd_http::errc;
using etcd_http::failure;

namespace {

constexpr auto deadline = 1s;
constexpr std::size_t largest_answer = std::size_t{16} << 20;

} // namespace

asio::awaitable<etcd_http::result<std::string>> ask_daemon(const config::settings& settings, std::string target) {
    if (!settings.listen)
        co_return failure{errc::unreachable, "the daemon does not listen (`listen` is off)"};
    etcd_http::http_request request;
    request.host = settings.listen->host.empty() ? "127.0.0.1" : settings.listen->host;
    request.ip = request.host;
    request.port = settings.listen->port;
    request.target = std::move(target);
    auto reply = co_await etcd_http::exchange(request, deadline, largest_answer);
    if (reply.has_error())
        co_return failure{reply.error().kind, fmt::format("the daemon does not answer ({})", reply.error().detail)};
    if (reply->status != 200)
        co_return failure{errc::malformed, fmt::format("the daemon answers {} to {}", reply->status, request.target)};
    co_return std::move(reply->body);
}

} // namespace pointsman::agent
