// Pure: see terminal_text.hpp.
#include "agent/terminal_text.hpp"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

namespace pointsman::agent {

namespace {

struct range {
    char32_t first;
    char32_t last;
};

bool in(std::span<const range> ranges, char32_t code) {
    return std::any_of(ranges.begin(), ranges.end(),
                       [code](const range& r) { return r.first <= code && code <= r.last; });
}

// Controls, and the invisible characters that reorder or join the text around them: a name must not be able to look
// like another one, or like another column.
constexpr range unsafe[] = {{0x0000, 0x001f}, {0x007f, 0x009f}, {0x00ad, 0x00ad},  {0x061c, 0x061c},
                            {0x180e, 0x180e}, {0x200b, 0x200f}, {0x2028, 0x202e},  {0x2060, 0x206f},
                            {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f}};

// Marks that are drawn onto the character before them (wcwidth() knows them in a UTF-8 locale only, and the agent sets
// no locale).
constexpr range combining[] = {{0x0300, 0x036f}, {0x0483, 0x0489},  {0x0591, 0x05bd}, {0x0610, 0x061a},
                               {0x064b, 0x065f}, {0x0e31, 0x0e31},  {0x0e34, 0x0e3a}, {0x0e47, 0x0e4e},
                               {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff},  {0x20d0, 0x20ff}, {0xfe00, 0xfe0f},
                               {0xfe20, 0xfe2f}, {0xe0100, 0xe01ef}};

// East Asian wide and full-width characters, and the pictures.
constexpr range wide[] = {{0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},   {0xac00, 0xd7a3},
                          {0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},
                          {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1faff}, {0x20000, 0x3fffd}};

// What a terminal draws as one unit, as bytes to print and the columns that it takes.
struct glyph {
    std::string bytes;
    std::size_t columns{};
};

std::string hex(unsigned value, unsigned digits) {
    std::string out;
    for (unsigned shift = 4 * digits; shift > 0; shift -= 4)
        out += "0123456789abcdef"[value >> (shift - 4) & 0xfU];
    return out;
}

// Takes the first character off `text`, which is not empty.
glyph take_glyph(std::string_view& text) {
    const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const std::size_t length = byte(0) < 0x80 ? 1 : byte(0) < 0xc2 ? 0 : byte(0) < 0xe0 ? 2 : byte(0) < 0xf0 ? 3 : 4;
    bool valid = length > 0 && byte(0) < 0xf5 && length <= text.size();
    char32_t code = length == 1 ? byte(0) : byte(0) & (0xffU >> (length + 1));
    for (std::size_t i = 1; valid && i < length; ++i) {
        valid = (byte(i) & 0xc0U) == 0x80;
        code = code << 6U | (byte(i) & 0x3fU);
    }
    constexpr char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    valid = valid && code >= least[length] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    if (!valid) {
        const unsigned char bad = byte(0);
        text.remove_prefix(1);
        return {"\\x" + hex(bad, 2), 4};
    }
    std::string bytes(text.substr(0, length));
    text.remove_prefix(length);
    if (in(unsafe, code)) {
        std::string escape = code < 0x100     ? "\\x" + hex(static_cast<unsigned>(code), 2)
                             : code < 0x10000 ? "\\u" + hex(static_cast<unsigned>(code), 4)
                                              : "\\U" + hex(static_cast<unsigned>(code), 8);
        const std::size_t columns = escape.size();
        return {std::move(escape), columns};
    }
    return {std::move(bytes), in(combining, code) ? std::size_t{0} : in(wide, code) ? std::size_t{2} : std::size_t{1}};
}

} // namespace

cell terminal_text(std::string_view text, std::size_t limit) {
    std::vector<glyph> glyphs;
    std::size_t columns = 0;
    while (!text.empty()) {
        glyphs.push_back(take_glyph(text));
        columns += glyphs.back().columns;
    }
    cell out;
    if (columns <= limit) {
        for (const glyph& g : glyphs)
            out.text += g.bytes;
        out.columns = columns;
        return out;
    }
    std::size_t head = 0;
    while (out.columns + glyphs[head].columns <= (limit - 1) / 2) {
        out.text += glyphs[head].bytes;
        out.columns += glyphs[head++].columns;
    }
    std::size_t tail = glyphs.size();
    std::size_t tail_columns = 0;
    while (out.columns + 1 + tail_columns + glyphs[tail - 1].columns <= limit)
        tail_columns += glyphs[--tail].columns;
    out.text += "…";
    for (; tail < glyphs.size(); ++tail)
        out.text += glyphs[tail].bytes;
    out.columns += 1 + tail_columns;
    return out;
}

} // namespace pointsman::agent
