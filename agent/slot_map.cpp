// Pure: see the header; nlohmann is the one library in here.
#include "agent/slot_map.hpp"

#include "agent/bounded_json.hpp"
#include "agent/terminal_text.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <utility>

namespace pointsman::agent {
namespace {

// ---------------------------------------------------------------------------------------------------------------------
// Table.

enum column {
    slot_column,
    member_column,
    address_column,
    state_column,
    operational_column,
    weight_column,
    sessions_column,
    desired_column,
    column_count
};

using line = std::array<cell, column_count>;

constexpr std::array<const char*, column_count> titles = {"SLOT",        "MEMBER", "ADDRESS",  "STATE",
                                                          "OPERATIONAL", "WEIGHT", "SESSIONS", "DESIRED"};
constexpr std::size_t indent = 2; // of a slot below its backend; the mark is in it
constexpr std::size_t gap = 2;    // between columns
constexpr std::size_t least_member_width = 12;

// Nobody's, and as it should be: shown in a few characters, so that the slots in use stand out.
bool is_free(const slot_row& row) {
    return !row.member && row.state == "maint" && row.in_step.value_or(true);
}

line cells_of(const slot_row& row, std::size_t member_width) {
    line cells;
    cells[slot_column] = terminal_text(row.slot);
    cells[member_column] = row.member ? terminal_text(*row.member, member_width) : terminal_text("-");
    if (is_free(row)) {
        cells[address_column] = terminal_text("free");
        return cells;
    }
    const bool v6 = row.address && row.address->find(':') != std::string::npos;
    std::string address = row.address ? (v6 ? '[' + *row.address + ']' : *row.address) : "-";
    if (row.address && row.port)
        address += ':' + std::to_string(*row.port);
    cells[address_column] = terminal_text(address);
    cells[state_column] = terminal_text(row.state);
    cells[operational_column] = terminal_text(row.operational);
    cells[weight_column] = terminal_text(std::to_string(row.weight));
    cells[sessions_column] = terminal_text(row.sessions ? std::to_string(*row.sessions) : "?");
    cells[desired_column] = terminal_text(row.desired.value_or("?"));
    return cells;
}

std::array<std::size_t, column_count> widths_of(const std::vector<line>& lines) {
    std::array<std::size_t, column_count> widths{};
    for (const line& cells : lines)
        for (std::size_t i = 0; i < column_count; ++i)
            widths[i] = std::max(widths[i], cells[i].columns);
    return widths;
}

std::string render_line(std::string text, const line& cells, const std::array<std::size_t, column_count>& widths) {
    for (std::size_t i = 0; i < column_count; ++i) {
        const std::string padding(widths[i] - cells[i].columns, ' ');
        const bool number = i == weight_column || i == sessions_column;
        text += (number ? padding + cells[i].text : cells[i].text + padding) + std::string(gap, ' ');
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
}

std::string coloured(const char* colour, std::string text, bool wanted) {
    return wanted ? std::string("\x1b[") + colour + 'm' + std::move(text) + "\x1b[0m" : text;
}

// ---------------------------------------------------------------------------------------------------------------------
// JSON.

using nlohmann::json;

constexpr std::size_t max_json_size = std::size_t{4} << 20;
constexpr int max_json_depth = 3; // an array of objects of scalars

template<class T>
json or_null(const std::optional<T>& value) {
    return value ? json(*value) : json(nullptr);
}

// Reads the keys of one object; the first one that is not as it should be is kept in `error`.
class object_reader {
public:
    explicit object_reader(const json& object) : object_(object) {}

    const std::string& error() const { return error_; }

    std::optional<std::string> text(const char* key) {
        const json* value = find(key);
        if (value && !value->is_string())
            refuse(key, "text");
        return value && value->is_string() ? std::optional(value->get_ref<const std::string&>()) : std::nullopt;
    }

    std::optional<std::string> word(const char* key, std::initializer_list<std::string_view> words) {
        std::optional<std::string> value = text(key);
        if (value && std::find(words.begin(), words.end(), *value) == words.end())
            refuse(key, "a word known here");
        return value;
    }

    std::optional<std::uint64_t> number(const char* key, std::uint64_t least, std::uint64_t most) {
        const json* value = find(key);
        const auto* number = value ? value->get_ptr<const json::number_unsigned_t*>() : nullptr;
        if (value && (!number || *number < least || *number > most))
            refuse(key, "a number of " + std::to_string(least) + " to " + std::to_string(most));
        return number ? std::optional<std::uint64_t>(*number) : std::nullopt;
    }

    std::optional<bool> boolean(const char* key) {
        const json* value = find(key);
        if (value && !value->is_boolean())
            refuse(key, "true or false");
        return value && value->is_boolean() ? std::optional(*value->get_ptr<const bool*>()) : std::nullopt;
    }

    // For a key that may be neither null nor absent.
    template<class T>
    T required(const char* key, std::optional<T> value) {
        if (!value)
            refuse(key, "there");
        return std::move(value).value_or(T{});
    }

private:
    // The value; null where there is none.
    const json* find(const char* key) const {
        const auto at = object_.find(key);
        return at == object_.end() || at->is_null() ? nullptr : &*at;
    }

    void refuse(const char* key, const std::string& expected) {
        if (error_.empty())
            error_ = std::string("'") + key + "' is not " + expected;
    }

    const json& object_;
    std::string error_;
};

} // namespace

slot_row row_of(const runtime_api::slot& slot) {
    slot_row row;
    row.backend = slot.id.backend();
    row.slot = slot.id.server();
    if (slot.where) {
        row.address = slot.where->ip();
        row.port = slot.where->port();
    }
    row.state = to_string(slot.admin);
    row.operational = to_string(slot.operational);
    row.weight = slot.weight;
    return row;
}

std::string render_table(std::span<const slot_row> rows, const table_style& style) {
    if (rows.empty())
        return "no slots\n";

    line head;
    for (std::size_t i = 0; i < column_count; ++i)
        head[i] = terminal_text(titles[i]);
    const auto lay_out = [rows, &head](std::size_t member_width) {
        std::vector<line> lines{head};
        for (const slot_row& row : rows)
            lines.push_back(cells_of(row, member_width));
        return lines;
    };
    std::vector<line> lines = lay_out(std::numeric_limits<std::size_t>::max());
    std::array<std::size_t, column_count> widths = widths_of(lines);
    std::size_t total = indent + gap * (column_count - 1);
    for (const std::size_t width : widths)
        total += width;
    if (total > style.width) {
        const std::size_t excess = total - style.width;
        const std::size_t least = std::min(widths[member_column], least_member_width);
        lines = lay_out(std::max(widths[member_column] - std::min(widths[member_column], excess), least));
        widths = widths_of(lines);
    }

    std::vector<std::string_view> backends;
    for (const slot_row& row : rows)
        if (std::find(backends.begin(), backends.end(), row.backend) == backends.end())
            backends.push_back(row.backend);

    std::string out = coloured("1", render_line("  ", head, widths), style.colour) + '\n';
    for (const std::string_view backend : backends) {
        out += coloured("1", terminal_text(backend).text, style.colour) + '\n';
        for (std::size_t i = 0; i < rows.size(); ++i) {
            if (rows[i].backend != backend)
                continue;
            const bool off = rows[i].in_step == false;
            const std::string text = render_line(off ? "! " : "  ", lines[i + 1], widths);
            out += coloured(off ? "31" : "2", text, style.colour && (off || is_free(rows[i]))) + '\n';
            if (off && rows[i].why)
                out += coloured("31", "    " + terminal_text(*rows[i].why).text, style.colour) + '\n';
        }
    }
    return out;
}

std::string render_json(std::span<const slot_row> rows) {
    std::string out = "[";
    for (const slot_row& row : rows) {
        // Ordered as documented: people read this too.
        nlohmann::ordered_json object = {
            {"backend", row.backend},
            {"slot", row.slot},
            {"member", or_null(row.member)},
            {"address", or_null(row.address)},
            {"port", or_null(row.port)},
            {"state", row.state},
            {"operational", row.operational},
            {"weight", row.weight},
            {"sessions", or_null(row.sessions)},
            {"desired", or_null(row.desired)},
            {"in_step", or_null(row.in_step)},
        };
        if (row.why)
            object["why"] = *row.why;
        // A member's name need not be UTF-8; dump() would throw.
        out += (out.size() == 1 ? "\n" : ",\n") + object.dump(-1, ' ', false, json::error_handler_t::replace);
    }
    return out + (rows.empty() ? "]\n" : "\n]\n");
}

boost::system::result<std::vector<slot_row>, std::string> parse_json(std::string_view text) {
    if (text.size() > max_json_size)
        return std::string("the slot map is larger than 4 MiB");
    const auto document = parse_bounded<json>(text, max_json_depth);
    if (!document || !document->is_array())
        return std::string("the slot map is not a JSON array of slots");

    std::vector<slot_row> rows;
    for (const json& object : *document) {
        const std::string where = "slot " + std::to_string(rows.size() + 1) + " of the slot map";
        if (!object.is_object())
            return where + " is not a JSON object";
        object_reader read(object);
        slot_row row;
        row.backend = read.required("backend", read.text("backend"));
        row.slot = read.required("slot", read.text("slot"));
        row.member = read.text("member");
        row.address = read.text("address");
        if (const auto port = read.number("port", 1, 65535))
            row.port = static_cast<std::uint16_t>(*port);
        row.state = read.required("state", read.word("state", {"ready", "drain", "maint"}));
        row.operational =
            read.required("operational", read.word("operational", {"up", "down", "starting", "stopping"}));
        row.weight = static_cast<unsigned>(read.required("weight", read.number("weight", 0, 256)));
        row.sessions = read.number("sessions", 0, std::numeric_limits<std::uint64_t>::max());
        row.desired = read.word("desired", {"ready", "drain", "maint"});
        row.in_step = read.boolean("in_step");
        row.why = read.text("why");
        if (!read.error().empty())
            return where + ": " + read.error();
        rows.push_back(std::move(row));
    }
    return rows;
}

} // namespace pointsman::agent
