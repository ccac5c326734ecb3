#include "runtime_api/master.hpp"

#include <span>
#include <utility>

namespace pointsman::runtime_api {

namespace asio = boost::asio;

master::master(std::string path, exchange_limits limits) : target_{std::move(path), {}, 0}, limits_(limits) {}

asio::awaitable<result<std::vector<std::int64_t>>> master::old_workers() const {
    auto reply = co_await exchange(target_, "show proc\n", limits_, last_word::client);
    if (!reply)
        co_return reply.error();
    co_return about(target_, parse_old_workers(*reply));
}

asio::awaitable<result<std::optional<old_worker>>> master::look(std::int64_t pid) const {
    auto reply = co_await exchange(target_, render_look(pid), limits_, last_word::client);
    if (!reply)
        co_return reply.error();
    co_return about(target_, parse_old_worker(*reply));
}

asio::awaitable<result<void>> master::cut(std::int64_t pid, std::vector<open_session> sessions) const {
    std::span<const open_session> left = sessions;
    while (!left.empty()) {
        std::string line = render_shutdown(pid, left);
        const auto reply = co_await exchange(target_, std::move(line), limits_, last_word::client);
        if (!reply)
            co_return reply.error();
    }
    co_return result<void>();
}

} // namespace pointsman::runtime_api
