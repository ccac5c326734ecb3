// Pure: a fault that lasts: told when it begins, then every minute with how often it was seen, and when it ends.
#pragma once

#include "agent/health.hpp"

#include <chrono>
#include <optional>
#include <string>

namespace pointsman::agent {

class fault {
public:
    static constexpr std::chrono::minutes told_every{1};
    // Another text is news, but not more often than this: two that take turns are still one fault.
    static constexpr std::chrono::seconds news_every{10};

    struct telling {
        std::string text;
        bool news{}; // not only that it lasts
    };

    // It was seen, with this text. What to tell of that, if anything.
    std::optional<telling> seen(std::string text, time_point now);

    // All is well. How long it was not, if it was not: "after 3 min, seen 182 times".
    std::optional<std::string> over(time_point now);

    explicit operator bool() const { return count_ != 0; }

    // As seen last; empty: all is well.
    const std::string& text() const { return text_; }

private:
    std::string text_;
    std::string told_text_;
    unsigned count_{};
    time_point since_{};
    time_point told_{};
};

} // namespace pointsman::agent
