#include "runtime_api/session.hpp"

#include <utility>

namespace pointsman::runtime_api {

namespace asio = boost::asio;

session::session(socket_target target, exchange_limits limits) : target_(std::move(target)), limits_(limits) {}

asio::awaitable<result<process_info>> session::identify() const {
    auto reply = co_await ask("show info\n");
    if (!reply)
        co_return reply.error();
    co_return about(target_, parse_info(*reply));
}

asio::awaitable<result<observation>> session::observe() const {
    auto reply = co_await ask("show info;show servers state\n");
    if (!reply)
        co_return reply.error();
    co_return about(target_, parse_observation(*reply));
}

asio::awaitable<result<std::vector<server_statistics>>> session::statistics(std::string backend) const {
    constexpr std::string_view servers = " 4 -1\n"; // of their own, whatever else there is
    std::string line = "show stat " + (backend.empty() ? "-1" : std::move(backend));
    line += servers;
    auto reply = co_await ask(std::move(line));
    if (!reply)
        co_return reply.error();
    co_return about(target_, parse_stat(*reply));
}

asio::awaitable<result<void>> session::execute(std::span<const command> batch) const {
    auto reply = co_await ask(render_line(batch));
    if (!reply)
        co_return reply.error();
    co_return about(target_, check_reply(batch, *reply));
}

asio::awaitable<result<std::string>> session::ask(std::string line) const {
    co_return co_await exchange(target_, std::move(line), limits_, last_word::server);
}

} // namespace pointsman::runtime_api
