// Pure: see command.hpp.
#include "runtime_api/command.hpp"

#include <algorithm>
#include <cassert>
#include <cstddef>

namespace pointsman::runtime_api {
namespace {

constexpr std::size_t longest_line = 8000;

bool is_silent(const command& c) {
    return !std::holds_alternative<set_address>(c);
}

struct renderer {
    std::string operator()(const set_state& c) const {
        return "set server " + to_string(c.slot) + " state " + std::string(to_string(c.state));
    }
    std::string operator()(const set_address& c) const {
        return "set server " + to_string(c.slot) + " addr " + c.where.ip() + " port " + std::to_string(c.where.port());
    }
    std::string operator()(const set_weight& c) const {
        assert(c.weight <= 256);
        return "set server " + to_string(c.slot) + " weight " + std::to_string(c.weight);
    }
    std::string operator()(const shutdown_sessions& c) const { return "shutdown sessions server " + to_string(c.slot); }
    std::string operator()(const set_check& c) const {
        return (c.enabled ? "enable health " : "disable health ") + to_string(c.slot);
    }
    std::string operator()(const restore_health& c) const { return "set server " + to_string(c.slot) + " health up"; }
};

// `<what> changed from '<old>' to '<wanted>'`, where the old value is an address or a port and nothing else: else the
// end of another sentence would pass for the end of this one.
bool is_change(std::string_view clause, std::string_view what, std::string_view wanted) {
    const std::string begin = std::string(what) + " changed from '";
    const std::string end = "' to '" + std::string(wanted) + '\'';
    if (clause.size() <= begin.size() + end.size() || !clause.starts_with(begin) || !clause.ends_with(end))
        return false;
    const auto old = clause.substr(begin.size(), clause.size() - begin.size() - end.size());
    return old.find_first_not_of("0123456789abcdef.:+-") == std::string_view::npos; // `+0`: a mapped port
}

// Every success of `set server ... addr ... port ...` (facts 1.3). Up to 2.8 it names both parts, from 2.9 on only what
// changes. A success with other words in it is none: up to 2.8 `IP changed from .. to .., problem converting port ..`
// has changed the address and not the port.
bool is_address_success(const address& where, std::string_view reply) {
    if (!reply.ends_with("\n\n"))
        return false;
    reply.remove_suffix(2);
    constexpr std::string_view by_whom = " by 'stats socket command'";
    if (reply.ends_with(by_whom))
        reply.remove_suffix(by_whom.size());
    if (reply == "nothing changed")
        return true;

    constexpr std::string_view separator = ", ";
    const auto comma = reply.find(separator);
    const auto first = reply.substr(0, comma);
    const auto port = std::to_string(where.port());
    const bool first_is_ip = is_change(first, "IP", where.ip()) || first == "no need to change the addr";
    if (comma == std::string_view::npos)
        return is_change(first, "IP", where.ip()) || is_change(first, "port", port);
    const auto second = reply.substr(comma + separator.size());
    return first_is_ip && (is_change(second, "port", port) || second == "no need to change the port");
}

failure refused(const command& c, std::string_view answer) {
    const auto said = excerpt(answer);
    auto detail = '`' + render(c) + "`: " + (said.empty() ? "the answer is cut" : said);
    // Also the answer for a backend that is `disabled` in the configuration, which no pool of ours is.
    if (said == "Proxy is disabled.")
        return failure{errc::stopping, detail + " (an old worker answered)"};
    if (said == "Permission denied")
        return failure{errc::refused, detail + " (the stats socket needs `level admin`)"};
    return failure{errc::refused, std::move(detail)};
}

} // namespace

const slot_id& slot_of(const command& c) {
    return std::visit([](const auto& any) -> const slot_id& { return any.slot; }, c);
}

std::string render(const command& c) {
    return std::visit(renderer{}, c);
}

std::string render_line(std::span<const command> batch) {
    assert(can_share_a_line(batch));
    std::string line;
    for (const auto& c : batch) {
        if (!line.empty())
            line += ';';
        line += render(c);
    }
    return line + '\n';
}

bool can_share_a_line(std::span<const command> batch) {
    return !batch.empty() && next_batch(batch).size() == batch.size();
}

std::span<const command> next_batch(std::span<const command> commands) {
    if (commands.empty() || !is_silent(commands.front()))
        return commands.first(std::min<std::size_t>(commands.size(), 1));
    std::size_t count = 1;
    std::size_t length = render(commands.front()).size();
    for (; count != commands.size() && is_silent(commands[count]); ++count) {
        length += 1 + render(commands[count]).size();
        if (length >= longest_line)
            break;
    }
    return commands.first(count);
}

result<void> check_reply(std::span<const command> batch, std::string_view reply) {
    for (const auto& c : batch) {
        if (const auto* change = std::get_if<set_address>(&c)) {
            if (!is_address_success(change->where, reply))
                return refused(c, reply);
            return {};
        }
        // One empty line for each command, on every version (facts 1.2). A message stands in the place of the line of
        // the command that failed; what follows it is of later commands, and not always told apart (facts 1.1).
        if (!reply.starts_with('\n'))
            return refused(c, reply.substr(0, reply.find("\n\n")));
        reply.remove_prefix(1);
    }
    if (!reply.empty())
        return refused(batch.back(), reply);
    return {};
}

} // namespace pointsman::runtime_api
