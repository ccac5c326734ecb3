// Pure: text from HAProxy cut into lines, columns and numbers. What is returned points into the text that was given.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

namespace pointsman::runtime_api {

// Takes what stands before `end` off `text`, and `end` with it; everything where there is none.
inline std::string_view take(std::string_view& text, char end) {
    const auto at = text.find(end);
    const auto taken = text.substr(0, at);
    text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
    return taken;
}

// At least one column, which may be empty.
inline std::vector<std::string_view> split(std::string_view line, char separator) {
    std::vector<std::string_view> columns;
    for (;;) {
        const auto end = line.find(separator);
        columns.push_back(line.substr(0, end));
        if (end == std::string_view::npos)
            return columns;
        line.remove_prefix(end + 1);
    }
}

// The whole of `text`, or nothing.
template<class Number>
std::optional<Number> number(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

} // namespace pointsman::runtime_api
