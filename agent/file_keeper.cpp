#include "agent/file_keeper.hpp"

#include "agent/fault.hpp"
#include "agent/on_disk.hpp"
#include "runtime_api/replace_file.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <spdlog/spdlog.h>

#include <utility>

namespace pointsman::agent {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::seconds retry_after{1};

// Runs on the disk's executor, on values of its own.
asio::awaitable<std::string> write(std::string path, std::string text) {
    const auto written = runtime_api::replace_file(path, text);
    co_return written.has_value() ? std::string() : written.error().detail;
}

} // namespace

struct file_keeper::state {
    state(const asio::any_io_executor& ex, asio::any_io_executor d, kept_file f)
        : timer(ex), disk(std::move(d)), file(std::move(f)) {}

    // Until it is time, or cancelled by a new text.
    asio::awaitable<void> sleep_until(asio::steady_timer::time_point at) {
        timer.expires_at(at);
        auto [error] = co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
        static_cast<void>(error);
    }

    asio::steady_timer timer;
    asio::any_io_executor disk;
    kept_file file;
    std::function<std::string()> next; // what is to be written
    asio::steady_timer::time_point not_before{};
    fault trouble;
};

file_keeper::file_keeper(const asio::any_io_executor& executor, asio::any_io_executor disk, kept_file what)
    : state_(std::make_unique<state>(executor, std::move(disk), std::move(what))) {}

file_keeper::~file_keeper() = default;

void file_keeper::keep(std::function<std::string()> text) {
    state_->next = std::move(text);
    state_->timer.cancel();
}

asio::awaitable<void> file_keeper::run() {
    state& s = *state_;
    for (;;) {
        const auto now = asio::steady_timer::clock_type::now();
        if (!s.next || now < s.not_before) {
            const auto until = s.next ? s.not_before : asio::steady_timer::time_point::max();
            co_await s.sleep_until(until);
            continue;
        }
        const auto source = std::exchange(s.next, nullptr);
        const std::string text = source();
        const std::string trouble = co_await on_disk(s.disk, write(s.file.path, text));
        const bool written = trouble.empty();
        const auto ended = asio::steady_timer::clock_type::now();
        s.not_before = ended + (written ? s.file.at_most_every : std::chrono::milliseconds(retry_after));
        if (written) {
            if (const auto lasted = s.trouble.over(ended))
                spdlog::info("{} {}: kept again, {}", s.file.name, s.file.path, *lasted);
        } else if (const auto told = s.trouble.seen(trouble, ended)) {
            spdlog::error("{} {}; {}; trying again every {} s", s.file.name, told->text, s.file.without,
                          retry_after.count());
        }
        if (!written && !s.next)
            s.next = source;
    }
}

} // namespace pointsman::agent
