#include "agent/release.hpp"

#include "agent/run_to_end.hpp"
#include "agent/wiring.hpp"
#include "etcd_http/patroni.hpp"

#include <boost/asio/io_context.hpp>

#include <spdlog/spdlog.h>

namespace pointsman::agent {

boost::asio::awaitable<runtime_api::result<void>> release_checks(const runtime_api::session& session,
                                                                 const std::set<std::string>& backends) {
    const auto seen = co_await session.observe();
    if (seen.has_error())
        co_return seen.error();
    std::vector<runtime_api::command> commands;
    for (const runtime_api::slot& s : seen->slots) {
        if (!backends.contains(s.id.backend()) || !s.check_configured || s.check_enabled)
            continue;
        if (s.admin != runtime_api::admin_state::maint)
            commands.emplace_back(runtime_api::restore_health{s.id});
        commands.emplace_back(runtime_api::set_check{s.id, true});
    }
    std::span<const runtime_api::command> left = commands;
    while (!left.empty()) {
        const auto batch = next_batch(left);
        const auto answer = co_await session.execute(batch);
        if (answer.has_error())
            co_return answer.error();
        for (const auto& command : batch)
            spdlog::info(R"(command="{}" answer=ok why="R3: the agent stops, HAProxy's own check is the backstop")",
                         render(command));
        left = left.subspan(batch.size());
    }
    co_return runtime_api::result<void>();
}

namespace {

boost::asio::awaitable<void> release(const config::settings& settings, int& status) {
    const runtime_api::session session(haproxy_target(settings));
    const auto backends = backends_of(settings);
    const auto released = co_await release_checks(session, backends);
    if (released.has_error()) {
        spdlog::error("{}", etcd_http::printable(released.error().detail, 300));
        status = 3;
    }
}

} // namespace

int release_command(const config::settings& settings) {
    int status = 0;
    boost::asio::io_context context(1);
    run_to_end(context, release(settings, status));
    return status;
}

} // namespace pointsman::agent
