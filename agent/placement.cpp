// Pure: see placement.hpp.
#include "agent/placement.hpp"

#include <algorithm>
#include <set>

namespace pointsman::agent {

namespace {

using runtime_api::admin_state;
using runtime_api::slot;
using runtime_api::slot_id;

// Gives slots out one by one; the steps of place() in order of right.
class placing {
public:
    placing(std::span<const slot> slots, const placement& before) : slots_(slots), before_(before) {}

    bool has_slot(const std::string& name) const { return result_.slots.contains(name); }

    // The slot that has the member's address already; of several the one in service, else the one it had, else the
    // first.
    void by_address(const candidate& m) {
        const slot* best = nullptr;
        for (const slot& s : slots_) {
            if (s.where != m.where || taken_.contains(s.id))
                continue;
            if (!best || rank(s, m) > rank(*best, m))
                best = &s;
        }
        give(m, best);
    }

    // The slot it had before its address changed.
    void by_memory(const candidate& m) {
        const auto it = before_.slots.find(m.name);
        if (it == before_.slots.end() || taken_.contains(it->second))
            return;
        const auto found = std::ranges::find(slots_, it->second, &slot::id);
        give(m, found == slots_.end() ? nullptr : &*found);
    }

    void first_free(const candidate& m) {
        const auto found = std::ranges::find_if(slots_, [this](const slot& s) {
            return s.where && s.admin == admin_state::maint && !taken_.contains(s.id);
        });
        give(m, found == slots_.end() ? nullptr : &*found);
    }

    // For the leader alone: the last slot in maint, else, where it may cut, the last that is drained. One in service is
    // left alone: the rules take it out first where it must go.
    void evict_for(const candidate& leader) {
        const slot* victim = nullptr;
        for (const slot& s : slots_) {
            const bool goes = s.admin == admin_state::maint || (s.admin == admin_state::drain && leader.may_cut);
            if (s.where && goes && (!victim || s.admin >= victim->admin))
                victim = &s;
        }
        if (!victim)
            return;
        std::erase_if(result_.slots, [victim](const auto& entry) { return entry.second == victim->id; });
        give(leader, victim);
    }

    placement& result() { return result_; }

private:
    int rank(const slot& s, const candidate& m) const {
        const auto it = before_.slots.find(m.name);
        return (s.admin == admin_state::ready ? 2 : 0) + (it != before_.slots.end() && it->second == s.id ? 1 : 0);
    }

    void give(const candidate& m, const slot* s) {
        if (!s)
            return;
        taken_.insert(s->id);
        result_.slots.insert_or_assign(m.name, s->id);
    }

    std::span<const slot> slots_;
    const placement& before_;
    std::set<slot_id> taken_;
    placement result_;
};

} // namespace

placement place(std::span<const slot> slots, std::vector<candidate> members, const placement& before) {
    std::ranges::sort(members, [](const candidate& a, const candidate& b) {
        return a.leader != b.leader ? a.leader : a.name < b.name;
    });
    placing p(slots, before);

    // Two members with one address cannot both have it in HAProxy (R6); the leader's word counts, then the name's
    // order.
    std::map<runtime_api::address, std::string> owners;
    std::erase_if(members, [&owners, &p](const candidate& m) {
        if (!m.where)
            return false;
        const auto [it, is_new] = owners.try_emplace(*m.where, m.name);
        if (!is_new)
            p.result().same_address.emplace(m.name, it->second);
        return !is_new;
    });

    for (const candidate& m : members) {
        if (m.where)
            p.by_address(m);
    }
    for (const candidate& m : members) {
        if (!p.has_slot(m.name))
            p.by_memory(m);
    }
    for (const candidate& m : members) {
        if (m.where && !p.has_slot(m.name))
            p.first_free(m);
    }
    for (const candidate& m : members) {
        if (!m.where || p.has_slot(m.name))
            continue;
        if (m.leader)
            p.evict_for(m);
        if (!p.has_slot(m.name))
            p.result().without_slot.push_back(m.name);
    }
    std::ranges::sort(p.result().without_slot);
    return std::move(p.result());
}

} // namespace pointsman::agent
