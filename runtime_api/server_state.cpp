// Pure: see server_state.hpp.
#include "runtime_api/server_state.hpp"

#include "runtime_api/text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <span>
#include <utility>

namespace pointsman::runtime_api {
namespace {

failure malformed(std::string detail) {
    return failure{errc::malformed, std::move(detail)};
}

bool is_name(std::string_view text) {
    constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-";
    return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}

// What is wrong with a line as a line; nullptr where nothing is. HAProxy separates columns by one space and writes `-`
// where there is nothing to write. The text goes on to logs and to the state file, so it must hold nothing else.
const char* fault_of(std::string_view line) {
    if (std::any_of(line.begin(), line.end(), [](char c) { return (c >= '\0' && c < ' ') || c == '\x7f'; }))
        return "a control character";
    if (line.starts_with(' ') || line.ends_with(' ') || line.find("  ") != std::string_view::npos)
        return "an empty column";
    return nullptr;
}

// Where in a row the wanted columns are; nullopt where the header lacks one.
template<std::size_t N, class Text>
std::optional<std::array<std::size_t, N>> find_columns(const std::vector<Text>& header,
                                                       const std::array<std::string_view, N>& wanted) {
    std::array<std::size_t, N> at{};
    for (std::size_t i = 0; i != N; ++i) {
        const auto found = std::find(header.begin(), header.end(), wanted[i]);
        if (found == header.end())
            return std::nullopt;
        at[i] = static_cast<std::size_t>(found - header.begin());
    }
    return at;
}

// The columns of `show servers state` that the agent reads, in the order of `state_columns`.
enum state_column : std::size_t {
    be_name,
    srv_name,
    srv_addr,
    srv_op_state,
    srv_admin_state,
    srv_uweight,
    srv_iweight,
    srv_time_since_last_change,
    srv_check_state,
    srv_port,
};
constexpr std::array<std::string_view, 10> state_columns = {
    "be_name",         "srv_name",    "srv_addr",    "srv_op_state",
    "srv_admin_state", "srv_uweight", "srv_iweight", "srv_time_since_last_change",
    "srv_check_state", "srv_port",
};

constexpr unsigned maint_mask = 0x23; // FMAINT, IMAINT, RMAINT; not 0x04, `disabled` in the configuration (facts 3)
constexpr unsigned drain_mask = 0x18; // FDRAIN, IDRAIN
constexpr unsigned disabled_bit = 0x04;
constexpr unsigned check_configured_bit = 2;
constexpr unsigned check_enabled_bit = 4;
constexpr unsigned highest_weight = 256;

admin_state admin_state_of(unsigned bits) {
    if (bits & maint_mask)
        return admin_state::maint;
    return bits & drain_mask ? admin_state::drain : admin_state::ready;
}

// `field(column)` gives the text of one column. Fails with the name of the column that is not understood.
template<class Field>
boost::system::result<slot, std::string_view> parse_row(const Field& field) {
    const auto id = slot_id::parse(field(be_name), field(srv_name));
    if (!id)
        return std::string_view("be_name or srv_name");
    const auto operational = number<unsigned>(field(srv_op_state));
    if (!operational || *operational > 3)
        return state_columns[srv_op_state];
    const auto admin = number<unsigned>(field(srv_admin_state));
    if (!admin)
        return state_columns[srv_admin_state];
    const auto weight = number<unsigned>(field(srv_uweight));
    if (!weight || *weight > highest_weight)
        return state_columns[srv_uweight];
    const auto initial_weight = number<unsigned>(field(srv_iweight));
    if (!initial_weight || *initial_weight > highest_weight)
        return state_columns[srv_iweight];
    const auto since_change = number<std::int64_t>(field(srv_time_since_last_change));
    if (!since_change)
        return state_columns[srv_time_since_last_change];
    const auto check_state = number<unsigned>(field(srv_check_state));
    if (!check_state)
        return state_columns[srv_check_state];
    // A mapped port (`server s 10.0.0.1:-1`) is dumped as 4294967295: a number, though no port.
    const auto port = number<std::uint32_t>(field(srv_port));
    if (!port)
        return state_columns[srv_port];
    const auto ip = field(srv_addr);
    if (ip != "-" && (ip.empty() || ip.find_first_not_of("0123456789abcdef.:") != std::string_view::npos))
        return state_columns[srv_addr];

    return slot{*id,
                address::parse(ip, *port),
                admin_state_of(*admin),
                static_cast<operational_state>(*operational),
                *weight,
                *initial_weight,
                std::chrono::seconds(std::max<std::int64_t>(*since_change, 0)), // a clock that was set back
                (*check_state & check_configured_bit) != 0,
                (*check_state & check_enabled_bit) != 0};
}

// The rows of `show servers state`. `take_row(field)` gets each of them, `field(i)` being its column `columns[i]`, and
// returns the name of a column that is not understood, or nothing.
template<std::size_t N, class TakeRow>
result<void> read_servers_state(std::string_view text, const std::array<std::string_view, N>& columns,
                                const TakeRow& take_row) {
    if (text.empty() || text.back() != '\n')
        return malformed("show servers state: the answer ends in the middle of a line: " + excerpt(text));
    while (text.ends_with("\n\n"))
        text.remove_suffix(1);

    if (const auto version = take(text, '\n'); version != "1")
        return malformed("show servers state: begins with '" + excerpt(version) + "', not with format version 1");
    if (!text.starts_with("# "))
        return malformed("show servers state: no header line after the version");
    const auto header_line = take(text, '\n').substr(2);
    if (const char* fault = fault_of(header_line))
        return malformed("show servers state: " + std::string(fault) + " in the header");
    const auto header = split(header_line, ' ');
    const auto at = find_columns(header, columns);
    if (!at)
        return malformed("show servers state: the header lacks a column: " + excerpt(header.front()));

    while (!text.empty()) {
        const auto line = take(text, '\n');
        if (const char* fault = fault_of(line))
            return malformed("show servers state: " + std::string(fault) + " in the row '" + excerpt(line) + '\'');
        const auto fields = split(line, ' ');
        if (fields.size() != header.size())
            return malformed("show servers state: " + std::to_string(fields.size()) + " columns instead of " +
                             std::to_string(header.size()) + " in the row '" + excerpt(line) + '\'');
        const std::string_view fault = take_row([&fields, &at](std::size_t column) { return fields[(*at)[column]]; });
        if (!fault.empty())
            return malformed("show servers state: " + std::string(fault) + " is not understood in the row '" +
                             excerpt(line) + '\'');
    }
    return {};
}

// `text` is one row of `show stat` or more; takes the first off it. HAProxy quotes a field that holds a comma, a quote
// or a line's end, and doubles the quotes in it. nullopt: the row has no end.
std::optional<std::vector<std::string>> take_csv_row(std::string_view& text) {
    std::vector<std::string> fields(1);
    bool quoted = false;
    for (std::size_t i = 0; i != text.size(); ++i) {
        const char c = text[i];
        if (quoted && c == '"' && i + 1 != text.size() && text[i + 1] == '"')
            fields.back() += text[++i];
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && c == ',')
            fields.emplace_back();
        else if (!quoted && c == '\n') {
            text.remove_prefix(i + 1);
            return fields;
        } else
            fields.back() += c;
    }
    return std::nullopt;
}

constexpr std::string_view backend_type = "1"; // column `type` of `show stat`: 0 frontend, 3 listener
constexpr std::string_view server_type = "2";

// The rows of `show stat`; the rest as in read_servers_state.
template<std::size_t N, class TakeRow>
result<void> read_stat(std::string_view text, const std::array<std::string_view, N>& columns, const TakeRow& take_row) {
    if (!text.starts_with("# ") || !text.ends_with("\n\n"))
        return malformed("show stat: not a whole CSV dump: " + excerpt(text));
    text.remove_prefix(2);
    text.remove_suffix(1);
    const auto header = take_csv_row(text);
    const auto at = header ? find_columns(*header, columns) : std::nullopt;
    if (!at)
        return malformed("show stat: the header lacks a column");

    while (!text.empty()) {
        const auto row_text = text;
        const auto row = take_csv_row(text);
        if (!row || row->size() != header->size())
            return malformed("show stat: not as many columns as the header in the row '" + excerpt(row_text) + '\'');
        const std::string_view fault =
            take_row([&row, &at](std::size_t column) -> const std::string& { return (*row)[(*at)[column]]; });
        if (!fault.empty())
            return malformed("show stat: " + std::string(fault) + " is not understood in the row '" +
                             excerpt(row_text) + '\'');
    }
    return {};
}

} // namespace

std::optional<slot_id> slot_id::parse(std::string_view backend, std::string_view server) {
    if (!is_name(backend) || !is_name(server))
        return std::nullopt;
    return slot_id(std::string(backend), std::string(server));
}

std::string to_string(const slot_id& slot) {
    return slot.backend() + '/' + slot.server();
}

std::string_view to_string(admin_state state) {
    switch (state) {
        case admin_state::ready: return "ready";
        case admin_state::drain: return "drain";
        case admin_state::maint: return "maint";
    }
    return "?";
}

std::string_view to_string(operational_state state) {
    switch (state) {
        case operational_state::down: return "down";
        case operational_state::starting: return "starting";
        case operational_state::up: return "up";
        case operational_state::stopping: return "stopping";
    }
    return "?";
}

result<std::vector<slot>> parse_servers_state(std::string_view text) {
    std::vector<slot> slots;
    const auto read = read_servers_state(text, state_columns, [&slots](const auto& field) -> std::string_view {
        auto row = parse_row(field);
        if (!row)
            return row.error();
        if (row->id.server() != hold_server)
            slots.push_back(std::move(*row));
        return {};
    });
    if (!read)
        return read.error();
    return slots;
}

result<std::vector<declared_server>> parse_declarations(std::string_view text) {
    enum column : std::size_t { backend, server, address, admin, check_state, host_name, check_port, check_address };
    constexpr std::array<std::string_view, 8> columns = {"be_name",         "srv_name",        "srv_addr",
                                                         "srv_admin_state", "srv_check_state", "srv_fqdn",
                                                         "srv_check_port",  "srv_check_addr"};
    std::vector<declared_server> servers;
    const auto read = read_servers_state(text, columns, [&servers](const auto& field) -> std::string_view {
        const auto id = slot_id::parse(field(backend), field(server));
        if (!id)
            return "be_name or srv_name";
        const auto bits = number<unsigned>(field(admin));
        const auto check = number<unsigned>(field(check_state));
        const auto port = number<std::uint32_t>(field(check_port));
        if (!bits || !check || !port)
            return "srv_admin_state, srv_check_state or srv_check_port";
        if (id->server() != hold_server)
            servers.push_back({*id, field(address) != "-", field(host_name) != "-", (*bits & disabled_bit) != 0,
                               (*check & check_configured_bit) != 0, *port, field(check_address) != "-"});
        return {};
    });
    if (!read)
        return read.error();
    return servers;
}

result<process_info> parse_info(std::string_view text) {
    const auto value_of = [text](std::string_view key) -> std::string_view {
        for (const auto line : split(text, '\n'))
            if (line.starts_with(key) && line.substr(key.size()).starts_with(": "))
                return line.substr(key.size() + 2);
        return {};
    };

    process_info info;
    info.version = excerpt(value_of("Version"));
    const auto numbers = split(info.version, '.');
    // `2.6.12-1+deb12u4`, `3.5-dev5-0bcd3f8`
    const auto major = number<unsigned>(numbers.front());
    const auto second = numbers.size() > 1 ? numbers[1] : std::string_view{};
    const auto minor = number<unsigned>(second.substr(0, second.find_first_not_of("0123456789")));
    const auto pid = number<std::int64_t>(value_of("Pid"));
    const auto stopping = number<unsigned>(value_of("Stopping"));
    if (!major || !minor)
        return malformed("show info: no version in '" + excerpt(text) + '\'');
    if (!pid)
        return malformed("show info: no Pid in '" + excerpt(text) + '\'');
    if (!stopping)
        return malformed("show info: no Stopping in '" + excerpt(text) + '\'');
    info.major = *major;
    info.minor = *minor;
    info.pid = *pid;
    info.stopping = *stopping != 0;
    info.start_time = number<std::int64_t>(value_of("Start_time_sec")).value_or(0);
    return info;
}

result<std::vector<server_statistics>> parse_stat(std::string_view text) {
    enum column : std::size_t { pxname, svname, status, scur, type };
    constexpr std::array<std::string_view, 5> columns = {"pxname", "svname", "status", "scur", "type"};
    std::vector<server_statistics> servers;
    const auto read = read_stat(text, columns, [&servers](const auto& field) -> std::string_view {
        if (field(type) != server_type)
            return {};
        const auto sessions = number<std::uint64_t>(field(scur));
        if (!sessions)
            return "scur";
        servers.push_back({field(pxname), field(svname), field(status), *sessions});
        return {};
    });
    if (!read)
        return read.error();
    return servers;
}

result<std::map<std::string, backend_statistics>> parse_backends(std::string_view text) {
    enum column : std::size_t { pxname, svname, type, mode, algo, bck, slim };
    constexpr std::array<std::string_view, 7> columns = {"pxname", "svname", "type", "mode", "algo", "bck", "slim"};
    std::map<std::string, backend_statistics> backends;
    std::map<std::string, backend_statistics::hold> held; // servers come before their backend
    const auto read = read_stat(text, columns, [&backends, &held](const auto& field) -> std::string_view {
        if (field(type) == backend_type) {
            const auto hold = held.find(field(pxname));
            backends[field(pxname)] = {field(mode), field(algo),
                                       hold == held.end() ? std::nullopt : std::optional(hold->second)};
        } else if (field(type) == server_type && field(svname) == hold_server) {
            held[field(pxname)] = {field(bck) == "1", number<std::uint64_t>(field(slim)).value_or(0)};
        }
        return {};
    });
    if (!read)
        return read.error();
    return backends;
}

result<observation> parse_observation(std::string_view reply) {
    const auto end_of_info = reply.find("\n\n");
    if (end_of_info == std::string_view::npos)
        return malformed("show info: the answer is cut: " + excerpt(reply));
    auto info = parse_info(reply.substr(0, end_of_info));
    if (!info)
        return info.error();
    if (info->stopping)
        return failure{errc::stopping, "process " + std::to_string(info->pid) + " is an old worker that is stopping"};

    const auto dump = reply.substr(end_of_info + 2);
    if (!dump.ends_with("\n\n"))
        return malformed("show servers state: the answer is cut: " + excerpt(dump));
    auto slots = parse_servers_state(dump);
    if (!slots)
        return slots.error();
    return observation{std::move(*info), std::move(*slots), std::string(dump)};
}

} // namespace pointsman::runtime_api
