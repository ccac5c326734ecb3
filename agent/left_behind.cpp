// Pure: see left_behind.hpp.
#include "agent/left_behind.hpp"

#include <algorithm>

namespace pointsman::agent {

std::vector<runtime_api::open_session> to_end(const session_rules& rules, const runtime_api::old_worker& worker) {
    std::map<runtime_api::slot_id, bool> ends;
    for (const runtime_api::slot& s : worker.slots) {
        const auto rule = rules.find(s.id.backend());
        if (rule == rules.end() || !s.where)
            continue;
        const auto member = rule->second.ends.find(*s.where);
        ends.emplace(s.id, member == rule->second.ends.end() ? rule->second.others_end : member->second);
    }
    std::vector<runtime_api::open_session> result;
    for (const runtime_api::open_session& session : worker.sessions) {
        const auto it = ends.find(session.slot);
        if (it != ends.end() && it->second)
            result.push_back(session);
    }
    return result;
}

bool any_end(const session_rules& rules) {
    return std::ranges::any_of(rules, [](const auto& entry) {
        return entry.second.others_end ||
               std::ranges::any_of(entry.second.ends, [](const auto& member) { return member.second; });
    });
}

} // namespace pointsman::agent
