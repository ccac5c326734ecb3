#include "../support/scratch_dir.hpp"
#include "agent/file_keeper.hpp"
#include "agent/journal.hpp"
#include "agent/pause.hpp"
#include "agent/run_to_end.hpp"
#include "agent/task_group.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <catch2/catch.hpp>

#include <exception>
#include <functional>
#include <future>
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

struct halt {
    std::promise<void> reached;
    std::promise<void> goes_on;
};

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

TEST_CASE("file keeper: what is being written when it is cancelled is waited for", "[file_keeper]") {
    const scratch_dir folder;
    const std::string path = folder.path("haproxy.state");
    asio::io_context context(1);
    asio::thread_pool disk(1);
    // The disk's thread waits here, each time with what comes later behind it.
    const auto hold = [&disk](halt& h) {
        asio::post(disk, [&h] {
            h.reached.set_value();
            h.goes_on.get_future().wait();
        });
    };
    halt before, written, after;
    file_keeper keeper(context.get_executor(), disk.get_executor(), {"state file", path, "it is lost", 0ms});
    keeper.keep([] { return std::string("text"); });
    bool ended = false;
    asio::cancellation_signal stop;
    asio::co_spawn(context, keeper.run(),
                   asio::bind_cancellation_slot(stop.slot(), [&ended](const std::exception_ptr&) { ended = true; }));
    hold(before);
    context.poll();
    hold(written);
    before.goes_on.set_value();
    written.reached.get_future().wait();
    CHECK(read_text(path) == "text");

    hold(after);
    stop.emit(asio::cancellation_type::all);
    context.poll();
    CHECK_FALSE(ended); // the loop has not been told of the end of the writing
    written.goes_on.set_value();
    context.run();
    CHECK(ended);
    // Nor is the disk's thread told of the cancellation: what it would look at is gone by now.
    after.goes_on.set_value();
    disk.join();
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
