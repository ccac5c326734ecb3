#include "slots.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <stdexcept>

namespace pointsman::test {

using namespace runtime_api;

runtime_api::address address(const std::string& text) {
    const auto colon = text.rfind(':');
    const auto result =
        address::parse(text.substr(0, colon), static_cast<std::uint32_t>(std::stoul(text.substr(colon + 1))));
    if (!result)
        throw std::invalid_argument("not an address: " + text);
    return *result;
}

std::vector<slot> slots(const std::string& backend, const std::string& text) {
    std::vector<slot> result;
    std::istringstream rows(text);
    for (std::string row; std::getline(rows, row, ',');) {
        std::istringstream words(row);
        std::string name;
        std::string state;
        words >> name >> state;
        slot s{.id = slot_id::parse(backend, name).value(),
               .where = address("127.0.0.1:1"),
               .admin = state == "ready"   ? admin_state::ready
                        : state == "drain" ? admin_state::drain
                                           : admin_state::maint,
               .operational = state == "maint" ? operational_state::down : operational_state::up,
               .weight = 1,
               .initial_weight = 1,
               .since_change = {},
               .check_configured = true,
               .check_enabled = true};
        for (std::string word; words >> word;) {
            if (word == "none")
                s.where.reset();
            else if (word == "unchecked")
                s.check_enabled = false;
            else if (word.front() == 'w')
                s.weight = static_cast<unsigned>(std::stoul(word.substr(1)));
            else
                s.where = address(word);
        }
        result.push_back(std::move(s));
    }
    return result;
}

std::string text_of(std::span<const slot> slots) {
    std::string result;
    for (const slot& s : slots) {
        result += fmt::format("{}{} {}", result.empty() ? "" : ", ", s.id.server(), to_string(s.admin));
        if (!s.where)
            result += " none";
        else if (*s.where != address("127.0.0.1:1"))
            result += " " + to_string(*s.where);
        if (s.weight != 1)
            result += fmt::format(" w{}", s.weight);
        if (!s.check_enabled)
            result += " unchecked";
    }
    return result;
}

void apply(std::vector<slot>& slots, const command& c) {
    const auto at = std::ranges::find(slots, slot_of(c), &slot::id);
    if (at == slots.end())
        throw std::invalid_argument("no such slot: " + render(c));
    if (const auto* state = std::get_if<set_state>(&c)) {
        at->admin = state->state;
        at->operational = state->state == admin_state::maint ? operational_state::down : operational_state::up;
    } else if (const auto* move = std::get_if<set_address>(&c)) {
        at->where = move->where;
    } else if (const auto* weight = std::get_if<set_weight>(&c)) {
        at->weight = weight->weight;
    } else if (const auto* check = std::get_if<set_check>(&c)) {
        at->check_enabled = check->enabled;
    }
}

} // namespace pointsman::test
