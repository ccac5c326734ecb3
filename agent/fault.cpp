// Pure: see fault.hpp.
#include "agent/fault.hpp"

#include <fmt/format.h>

#include <utility>

namespace pointsman::agent {

namespace {

std::string describe(time_point::duration lasted, unsigned count) {
    const auto seconds = std::chrono::duration<double>(lasted).count();
    const std::string time = seconds < 100 ? fmt::format("{:.1f} s", seconds) : fmt::format("{:.0f} min", seconds / 60);
    return fmt::format("after {}, seen {} time{}", time, count, count == 1 ? "" : "s");
}

} // namespace

std::optional<fault::telling> fault::seen(std::string text, time_point now) {
    text_ = std::move(text);
    const bool begins = count_++ == 0;
    if (begins)
        since_ = now;
    const auto silent = now - told_;
    const bool news = begins || (text_ != told_text_ && silent >= news_every);
    if (!news && silent < told_every)
        return std::nullopt;
    told_ = now;
    told_text_ = text_;
    return telling{begins ? text_ : fmt::format("{} (still, {})", text_, describe(now - since_, count_)), news};
}

std::optional<std::string> fault::over(time_point now) {
    if (count_ == 0)
        return std::nullopt;
    std::string lasted = describe(now - since_, count_);
    *this = {};
    return lasted;
}

} // namespace pointsman::agent
