#include "agent/events_command.hpp"

#include "agent/ask_daemon.hpp"
#include "agent/history.hpp"
#include "agent/journal.hpp"
#include "agent/run_to_end.hpp"
#include "etcd_http/patroni.hpp"

#include <boost/asio/io_context.hpp>

#include <fmt/format.h>

#include <cstdio>
#include <optional>

namespace pointsman::agent {

namespace asio = boost::asio;

namespace {

constexpr int no_answer = 3;

asio::awaitable<void> ask_events(const config::settings& settings, std::optional<std::string>& text) {
    auto answer = co_await ask_daemon(settings, "/api/v1/events");
    if (answer.has_value())
        text = std::move(*answer);
    else
        fmt::print(stderr, "pointsman: {}\n", etcd_http::printable(answer.error().detail, 400));
}

} // namespace

int events_command(const config::settings& settings, const events_options& options) {
    std::optional<std::string> text;
    asio::io_context context(1);
    run_to_end(context, ask_events(settings, text));
    if (!text) {
        const std::string left = journal::file_beside(settings.haproxy.state_file);
        text = journal::read(left);
        if (!text)
            return no_answer;
        fmt::print(stderr, "pointsman: these are the events of {}, as the daemon left them\n", left);
    }
    auto all = parse_events(*text);
    if (all.has_error()) {
        fmt::print(stderr, "pointsman: the events are not of this version of Pointsman: {}\n", all.error());
        return no_answer;
    }
    if (options.cut)
        std::erase_if(*all, [](const recorded& r) { return r.what.cut.value_or(0) == 0; });
    if (all->size() > options.last)
        all->erase(all->begin(), all->end() - static_cast<std::ptrdiff_t>(options.last));
    fmt::print("{}", options.json ? render_events(*all) : describe_events(*all));
    return 0;
}

} // namespace pointsman::agent
