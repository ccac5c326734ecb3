#include "agent/pause.hpp"

#include "agent/ask_daemon.hpp"
#include "agent/on_disk.hpp"
#include "agent/run_to_end.hpp"
#include "etcd_http/patroni.hpp"
#include "runtime_api/replace_file.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <utility>

namespace pointsman::agent {

namespace asio = boost::asio;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

constexpr auto look_every = 500ms;
constexpr auto told_every = 1min;
constexpr auto heard_within = 3s;
constexpr int no_answer = 3;

wall_seconds wall_now() {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

// Empty: it does not answer.
asio::awaitable<void> ask_conduct(const config::settings& settings, std::string& conduct) {
    const auto answer = co_await ask_daemon(settings, "/api/v1/state");
    if (answer.has_error())
        co_return;
    const auto document = nlohmann::json::parse(*answer, nullptr, false);
    if (document.is_object() && document.contains("conduct") && document["conduct"].is_string())
        conduct = document["conduct"].get<std::string>();
}

asio::awaitable<void> wait_for_conduct(const config::settings& settings, std::string wanted, std::string& heard) {
    const auto executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    const auto deadline = std::chrono::steady_clock::now() + heard_within;
    for (;;) {
        heard.clear();
        co_await ask_conduct(settings, heard);
        if (heard.empty() || heard == wanted || std::chrono::steady_clock::now() > deadline)
            co_return;
        timer.expires_after(100ms);
        co_await timer.async_wait(asio::use_awaitable);
    }
}

// Prints what became of it.
int wait_until_heard(const config::settings& settings, const std::string& wanted, const std::string& done) {
    std::string heard;
    asio::io_context context(1);
    run_to_end(context, wait_for_conduct(settings, wanted, heard));
    if (heard == wanted) {
        fmt::print("{}\n", done);
        return 0;
    }
    if (heard.empty())
        fmt::print(stderr, "pointsman: {}, but the daemon does not answer: it will know when it runs\n", done);
    else
        fmt::print(stderr, "pointsman: the daemon says that it {}, {} s after the pause's file was changed\n",
                   etcd_http::printable(heard), std::chrono::seconds(heard_within).count());
    return no_answer;
}

std::string place_of_pause(const config::settings& settings) {
    std::string path = pause_file(settings);
    if (path.empty())
        throw std::runtime_error("haproxy.state_file is not set: there is no folder for the pause to be kept in");
    return path;
}

} // namespace

std::string pause_file(const config::settings& settings) {
    const std::string& beside = settings.haproxy.state_file;
    return beside.empty() ? "" : fs::path(beside).replace_filename("pause").string();
}

std::optional<wall_seconds> read_pause(const std::string& path) {
    std::error_code error;
    if (path.empty() || !fs::exists(path, error))
        return std::nullopt;
    std::ifstream file(path, std::ios::binary);
    std::string text;
    if (!file || !std::getline(file, text))
        throw std::runtime_error(fmt::format("{}: cannot be read", path));
    std::chrono::seconds::rep seconds{};
    const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (bad != std::errc() || end != text.data() + text.size())
        throw std::runtime_error(fmt::format("{}: not the time of a pause's end", path));
    const wall_seconds until{std::chrono::seconds(seconds)};
    // One that would last longer was not made by `pause`, or the clock has gone back.
    if (until <= wall_now() || until > wall_now() + longest_pause)
        return std::nullopt;
    return until;
}

std::string describe(wall_seconds time) {
    return fmt::format("{:%F %T}", fmt::localtime(std::chrono::system_clock::to_time_t(time)));
}

pause_watch::pause_watch(const asio::any_io_executor& executor, asio::any_io_executor disk, std::string path,
                         journal& told, std::function<void()> changed)
    : executor_(executor), disk_(std::move(disk)), path_(std::move(path)), journal_(told) {
    take(read(path_));
    changed_ = std::move(changed);
}

asio::awaitable<void> pause_watch::run() {
    asio::steady_timer timer(executor_);
    for (;;) {
        const reading next = co_await on_disk(disk_, read_there(path_));
        take(next);
        timer.expires_after(look_every);
        co_await timer.async_wait(asio::use_awaitable);
    }
}

orders pause_watch::now() const {
    if (!until_ || *until_ <= wall_now())
        return {};
    return {conduct::paused, describe(*until_)};
}

pause_watch::reading pause_watch::read(const std::string& path) {
    try {
        return {read_pause(path), {}};
    } catch (const std::runtime_error& e) {
        return {std::nullopt, e.what()};
    }
}

asio::awaitable<pause_watch::reading> pause_watch::read_there(std::string path) {
    co_return read(path);
}

void pause_watch::take(const reading& next) {
    const auto now = std::chrono::steady_clock::now();
    if (next.trouble.empty())
        trouble_.over(now);
    else if (const auto told = trouble_.seen(next.trouble, now))
        spdlog::error("pause {}; there is no pause", told->text);

    const bool news = next.until != until_;
    until_ = next.until;
    if (until_ && (news || now - told_ >= told_every)) {
        told_ = now;
        const std::string text =
            fmt::format("PAUSED until {}: HAProxy is observed and nothing is sent to it", describe(*until_));
        spdlog::warn("{}", text);
        if (news)
            journal_.add({.how = severity::warning, .kind = "agent", .text = text});
    }
    if (news && !until_) {
        spdlog::warn("the pause is over");
        journal_.add({.how = severity::warning, .kind = "agent", .text = "the pause is over"});
    }
    if (news && changed_)
        changed_();
}

int pause_command(const config::settings& settings, std::chrono::seconds lasts) {
    const std::string path = place_of_pause(settings);
    const wall_seconds until = wall_now() + lasts;
    const auto written = runtime_api::replace_file(path, fmt::format("{}\n", until.time_since_epoch().count()));
    if (written.has_error())
        throw std::runtime_error(written.error().detail);
    return wait_until_heard(settings, "paused", fmt::format("paused until {}", describe(until)));
}

int resume_command(const config::settings& settings) {
    std::error_code error;
    fs::remove(place_of_pause(settings), error);
    if (error)
        throw std::runtime_error(fmt::format("{}: {}", pause_file(settings), error.message()));
    return wait_until_heard(settings, "acts", "the agent acts");
}

} // namespace pointsman::agent
