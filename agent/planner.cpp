// Pure: see planner.hpp.
#include "agent/planner.hpp"

#include <algorithm>
#include <cassert>

namespace pointsman::agent {

using runtime_api::restore_health;
using runtime_api::set_address;
using runtime_api::set_check;
using runtime_api::set_state;
using runtime_api::set_weight;
using runtime_api::shutdown_sessions;
using runtime_api::slot;

namespace {

class planning {
public:
    void add(stage when, runtime_api::command what, const std::string& why) {
        steps_.push_back({when, std::move(what), why});
    }

    void slot_to(const slot& now, const desired_slot& want) {
        const bool moves = want.where && now.where && want.where != now.where;

        // An address changes only in maint, whatever the slot was before (R6). The order ready, drain, maint is that of
        // taking away.
        const admin_state lowered = moves ? admin_state::maint : std::max(now.admin, want.state);
        if (lowered != now.admin) {
            add(stage::take_away, set_state{now.id, lowered}, moves ? "R6: re-addressed only in maint" : want.why);
            if (want.cut)
                add(stage::take_away, shutdown_sessions{now.id}, want.why);
        }
        if (moves)
            add(stage::re_address, set_address{now.id, *want.where}, "R6: its member's address");

        if (want.weight && *want.weight != now.weight)
            add(stage::give, set_weight{now.id, *want.weight}, "weight");
        // A server that leaves maint is UP before its first check: the agent's probe was that check.
        if (want.state != lowered)
            add(stage::give, set_state{now.id, want.state}, want.why);
        const bool leaves_maint = lowered == admin_state::maint && want.state != admin_state::maint;
        const bool check_changes = now.check_configured && want.check != now.check_enabled;
        if (now.check_configured && want.state != admin_state::maint && (leaves_maint || check_changes))
            add(stage::give, restore_health{now.id}, "R3: one failed check is not enough");
        if (check_changes)
            add(stage::give, set_check{now.id, want.check},
                want.check ? "R3: HAProxy's own check is the backstop" : want.why);
    }

    std::vector<planned> steps() && {
        std::ranges::stable_sort(steps_, {}, &planned::when);
        return std::move(steps_);
    }

private:
    std::vector<planned> steps_;
};

} // namespace

std::vector<planned> plan(std::span<const slot> observed, std::span<const desired_slot> desired) {
    assert(observed.size() == desired.size());
    planning p;
    for (std::size_t i = 0; i != observed.size(); ++i) {
        assert(observed[i].id == desired[i].id);
        // A slot without an inet address can never get one (facts 4); `check` and `slots` tell the operator.
        if (observed[i].where)
            p.slot_to(observed[i], desired[i]);
    }
    return std::move(p).steps();
}

} // namespace pointsman::agent
