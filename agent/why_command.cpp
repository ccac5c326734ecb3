#include "agent/why_command.hpp"

#include "agent/ask_daemon.hpp"
#include "agent/run_to_end.hpp"
#include "agent/why.hpp"
#include "etcd_http/patroni.hpp"

#include <boost/asio/io_context.hpp>

#include <fmt/format.h>

#include <optional>

namespace pointsman::agent {

namespace asio = boost::asio;

namespace {

constexpr int found_nothing = 1;
constexpr int no_answer = 3;

asio::awaitable<void> ask_state(const config::settings& settings, std::optional<std::string>& document) {
    auto answer = co_await ask_daemon(settings, "/api/v1/state");
    if (answer.has_value())
        document = std::move(*answer);
    else
        fmt::print(stderr, "pointsman: {}; `pointsman slots` asks HAProxy itself\n",
                   etcd_http::printable(answer.error().detail, 400));
}

std::optional<std::string> state_of(const config::settings& settings) {
    std::optional<std::string> document;
    asio::io_context context(1);
    run_to_end(context, ask_state(settings, document));
    return document;
}

} // namespace

int why_command(const config::settings& settings, const std::string& what, bool json) {
    const auto document = state_of(settings);
    if (!document)
        return no_answer;
    const auto words = explain(*document, what, json);
    if (words.has_error()) {
        fmt::print(stderr, "pointsman: {}\n", words.error().detail);
        return words.error().not_found ? found_nothing : no_answer;
    }
    fmt::print("{}", *words);
    return 0;
}

int plan_command(const config::settings& settings, bool json) {
    const auto document = state_of(settings);
    if (!document)
        return no_answer;
    const auto words = explain_plan(*document, json);
    if (words.has_error()) {
        fmt::print(stderr, "pointsman: {}\n", words.error().detail);
        return no_answer;
    }
    fmt::print("{}", words->text);
    return words->commands == 0 ? 0 : found_nothing;
}

} // namespace pointsman::agent
