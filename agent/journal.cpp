#include "agent/journal.hpp"

#include "agent/file_keeper.hpp"
#include "runtime_api/replace_file.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

namespace pointsman::agent {

namespace {

// As the log's lines have it, with the offset.
std::string local_time() {
    const auto now = std::chrono::system_clock::now();
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
    const std::tm local = fmt::localtime(std::chrono::system_clock::to_time_t(now));
    std::string offset = fmt::format("{:%z}", local);
    offset.insert(3, ":");
    return fmt::format("{:%FT%T}.{:03}{}", local, ms, offset);
}

} // namespace

std::string journal::file_beside(const std::string& state_file) {
    return state_file.empty() ? "" : std::filesystem::path(state_file).replace_filename("events.json").string();
}

std::optional<std::string> journal::read(const std::string& path) {
    std::error_code error;
    if (const auto size = std::filesystem::file_size(path, error); error || size > largest_history)
        return std::nullopt;
    std::ifstream file(path, std::ios::binary);
    if (!file)
        return std::nullopt;
    return std::string{std::istreambuf_iterator<char>(file), {}};
}

void journal::go_on_from(const std::string& path) {
    const auto text = read(path);
    if (!text)
        return;
    auto before = parse_events(*text);
    if (before.has_value())
        history_ = std::move(*before);
    else
        spdlog::warn("journal {}: {}: the history begins anew", path, before.error());
}

void journal::keep_in(file_keeper* keeper) {
    keeper_ = keeper;
    changed();
}

void journal::add(event what) {
    record(history_, local_time(), std::move(what));
    changed();
}

void journal::add_all(events what) {
    for (event& e : what)
        record(history_, local_time(), std::move(e));
    if (!what.empty())
        changed();
}

void journal::write(const std::string& path) const {
    const auto written = runtime_api::replace_file(path, render_events(history_));
    if (written.has_error())
        spdlog::error("journal {}; its last second is lost", written.error().detail);
}

void journal::changed() {
    if (keeper_)
        keeper_->keep([this] { return render_events(history_); });
}

} // namespace pointsman::agent
