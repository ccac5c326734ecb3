#include "../support/scratch_dir.hpp"
#include "agent/file_keeper.hpp"
#include "agent/journal.hpp"
#include "agent/pause.hpp"
#include "agent/run_to_end.hpp"
#include "agent/task_group.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <catch2/catch.hpp>

#include <functional>
#include <stdexcept>
#include <string>

using namespace pointsman;
using namespace pointsman::agent;
using namespace pointsman::test;
using namespace std::chrono_literals;
namespace asio = boost::asio;

namespace {

wall_seconds in(std::chrono::seconds time) {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()) + time;
}

void write_pause(const std::string& path, wall_seconds until) {
    write_text(path, std::to_string(until.time_since_epoch().count()) + "\n");
}

// Ends the tasks when it holds, or throws after ten seconds.
asio::awaitable<void> until(agent::task_group& tasks, std::function<bool()> holds) {
    const auto executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    while (!holds()) {
        if (std::chrono::steady_clock::now() > deadline)
            throw std::runtime_error("not within 10 s");
        timer.expires_after(5ms);
        co_await timer.async_wait(asio::use_awaitable);
    }
    tasks.cancel();
    co_await tasks.wait();
}

} // namespace

TEST_CASE("pause: the file has its end, and one that is over, too long or absent is none", "[pause]") {
    const scratch_dir folder;
    const std::string path = folder.path("pause");
    CHECK(!read_pause(""));
    CHECK(!read_pause(path));
    const wall_seconds end = in(1h);
    write_pause(path, end);
    CHECK(read_pause(path) == end);
    write_pause(path, in(-1s));
    CHECK(!read_pause(path));
    write_pause(path, in(longest_pause + 1h));
    CHECK(!read_pause(path));
}

TEST_CASE("pause: a file that is not one is told, not obeyed", "[pause]") {
    const auto* text = GENERATE("", "soon\n", "12x\n", "99999999999999999999\n");
    const scratch_dir folder;
    const std::string path = folder.path("pause");
    write_text(path, text);
    CHECK_THROWS_AS(read_pause(path), std::runtime_error);

    asio::io_context context(1);
    journal told;
    const pause_watch watch(context.get_executor(), context.get_executor(), path, told, nullptr);
    CHECK(watch.now() == orders{});
}

TEST_CASE("pause: the first pass knows of it, and its end is heard", "[pause]") {
    const scratch_dir folder;
    const std::string path = folder.path("pause");
    write_pause(path, in(1h));
    asio::io_context context(1);
    asio::thread_pool disk(1);
    journal told;
    int changes = 0;
    pause_watch watch(context.get_executor(), disk.get_executor(), path, told, [&changes] { ++changes; });
    CHECK(watch.now().how == conduct::paused);

    write_pause(path, in(-1s));
    agent::task_group tasks(context.get_executor());
    tasks.spawn(watch.run());
    run_to_end(context, until(tasks, [&changes] { return changes == 1; }));

    CHECK(watch.now().how == conduct::acts);
    REQUIRE(told.all().size() == 2);
    CHECK(told.all().front().what.text.starts_with("PAUSED until "));
    CHECK(told.all().back().what.text == "the pause is over");
}

TEST_CASE("journal: the next daemon goes on from the file, and begins anew where that is none", "[journal]") {
    const scratch_dir folder;
    const std::string path = journal::file_beside(folder.path("haproxy.state"));
    CHECK(path == folder.path("events.json"));
    journal first;
    first.go_on_from(path);
    first.add({.kind = "agent", .text = "started"});
    first.write(path);

    journal second;
    second.go_on_from(path);
    second.add({.kind = "agent", .text = "started again"});
    REQUIRE(second.all().size() == 2);
    CHECK(second.all().front() == first.all().front());
    CHECK(second.all().back().id == 2);

    write_text(path, "[{\"id\":");
    journal third;
    third.go_on_from(path);
    CHECK(third.all().empty());
}

TEST_CASE("journal: it is written beside the loop, the last of what happened at once included", "[journal]") {
    const scratch_dir folder;
    const std::string path = folder.path("events.json");
    asio::io_context context(1);
    asio::thread_pool disk(1);
    journal told;
    file_keeper keeper(context.get_executor(), disk.get_executor(), {"journal", path, "it is lost", 0ms});
    told.keep_in(&keeper);
    agent::task_group tasks(context.get_executor());
    tasks.spawn(keeper.run());
    for (int i = 0; i != 100; ++i)
        told.add({.kind = "agent", .text = std::to_string(i)});
    run_to_end(context, until(tasks, [&path, &told] { return read_text(path) == render_events(told.all()); }));
    CHECK(told.all().size() == 100);
}
