// What the fuzzers have in common: how a law is seen to be broken, and the laws of texts that go to logs and terminals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

// Called by libFuzzer with every input.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace pointsman::fuzz {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

// Ends the process, which libFuzzer takes for a finding, with the law that does not hold.
inline void must(bool holds, std::string_view law) {
    if (holds)
        return;
    std::fprintf(stderr, "broken law: %.*s\n", static_cast<int>(law.size()), law.data());
    std::abort();
}

// Takes the first line off `text`, without its end; all of it where it has no line's end.
inline std::string_view take_line(std::string_view& text) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    return line;
}

// Whether a law of cut texts is tried with the first `length` bytes of `text`: everywhere in a short one, else where a
// cut could look whole (at the end of a line or of an object) and at some places between.
inline bool cut_at(std::string_view text, std::size_t length) {
    return text.size() < 300 || length % 61 == 0 || text[length] == '\n' ||
           (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '}'));
}

inline bool has_control(std::string_view text) {
    for (const char c : text)
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
            return true;
    return false;
}

// Decodes strictly: no overlong forms, no surrogates, nothing beyond U+10FFFF. Written anew and not taken from what is
// fuzzed.
inline bool is_utf8(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const auto byte = [text](std::size_t at) {
            return static_cast<unsigned char>(at < text.size() ? text[at] : 0);
        };
        const unsigned char first = byte(i);
        const std::size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
        if ((first >= 0x80 && first < 0xc2) || first > 0xf4)
            return false;
        for (std::size_t k = 1; k < length; ++k)
            if ((byte(i + k) & 0xc0) != 0x80)
                return false;
        if ((first == 0xe0 && byte(i + 1) < 0xa0) || (first == 0xed && byte(i + 1) > 0x9f) ||
            (first == 0xf0 && byte(i + 1) < 0x90) || (first == 0xf4 && byte(i + 1) > 0x8f))
            return false;
        i += length;
    }
    return true;
}

// Fit for one line of a log or of a terminal.
inline void must_be_printable(std::string_view text) {
    must(!has_control(text), "a text to be shown has no control character in it");
    must(is_utf8(text), "a text to be shown is UTF-8");
}

} // namespace pointsman::fuzz
