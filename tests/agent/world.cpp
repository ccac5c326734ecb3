#include "world.hpp"

#include "../support/slots.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace pointsman::test {

using namespace agent;
using namespace std::chrono_literals;

namespace {
const check master{"/master", config::pool_role::primary};
const check replica{"/replica", config::pool_role::replica};
} // namespace

world::world() {
    settings.scope = "demo";
    settings.pools.resize(2);
    settings.pools[0].backend = "primary";
    settings.pools[0].role = config::pool_role::primary;
    settings.pools[0].check = master.path;
    settings.pools[1].backend = "replicas";
    settings.pools[1].role = config::pool_role::replica;
    settings.pools[1].check = replica.path;
    c.known = true;
    c.confirmed = now;
}

world& world::member(const std::string& name) {
    agent::member& m = c.members[name];
    m.record.name = name;
    m.record.rest = etcd_http::rest_url{false, {"10.0.0." + name.substr(1), 8008}};
    m.record.connect = etcd_http::host_port{"10.0.0." + name.substr(1), 5432};
    m.connect = address("10.0.0." + name.substr(1) + ":5432");
    return *this;
}

world& world::leader(const std::string& name) {
    c.leader = etcd_http::leader_record{name, ++term_};
    c.last_leader = name;
    c.leader_since = now;
    return *this;
}

world& world::no_leader() {
    c.leader.reset();
    c.leader_since = now;
    return *this;
}

world& world::asked_to_leave(const std::string& name) {
    c.asked = switchover{name, now, ++term_};
    return *this;
}

world& world::etcd_away() {
    away_ = true;
    return *this;
}

world& world::gone(const std::string& name) {
    c.members.at(name).present = false;
    c.members.at(name).absent_since = now;
    return *this;
}

void world::probe(const std::string& name, const check& what, const node_says& answer, int times) {
    for (int i = 0; i != times; ++i) {
        outcome o{.sent = now, .received = now, .status = answer.status, .body = {}, .postgres_open = {}, .detail = {}};
        if (answer.status) {
            o.body = rest_body{.state = answer.state,
                               .role = answer.role,
                               .wal = answer.wal,
                               .replication_state = answer.replication_state,
                               .timeline = answer.timeline};
        } else {
            o.postgres_open = answer.postgres_open;
            o.detail = "no answer";
        }
        step(c.members.at(name).probes[what], what.role, std::move(o));
    }
}

world& world::says(const std::string& name, const node_says& answer, int times) {
    probe(name, master, answer, times);
    return *this;
}

world& world::reads(const std::string& name, const node_says& answer, int times) {
    probe(name, replica, answer, times);
    return *this;
}

world& world::passes(std::chrono::milliseconds time) {
    now += time;
    return *this;
}

world& world::slots(const std::string& backend, const std::string& text) {
    observed_[backend].slots = test::slots(backend, text);
    return *this;
}

world& world::sessions(const std::string& backend, const std::string& slot, std::uint64_t count) {
    observed_[backend].sessions.insert_or_assign(runtime_api::slot_id::parse(backend, slot).value(), count);
    return *this;
}

world& world::orphan_for(const std::string& backend, const std::string& slot, std::chrono::seconds time) {
    observed_[backend].orphan_since.insert_or_assign(runtime_api::slot_id::parse(backend, slot).value(), now - time);
    return *this;
}

const config::pool_settings& world::pool(const std::string& backend) const {
    const auto it = std::ranges::find(settings.pools, backend, &config::pool_settings::backend);
    if (it == settings.pools.end())
        throw std::invalid_argument("no pool " + backend);
    return *it;
}

placement world::place(const std::string& backend) const {
    std::vector<candidate> candidates;
    for (const auto& [name, m] : c.members)
        candidates.push_back({name, m.connect, c.last_leader == name});
    return agent::place(slots_of(backend), std::move(candidates), {});
}

const std::vector<runtime_api::slot>& world::slots_of(const std::string& backend) const {
    return observed_.at(backend).slots;
}

std::vector<desired_slot> world::desire(const std::string& backend) const {
    return agent::desire(settings, pool(backend), c, observed_.at(backend), place(backend), !away_, now);
}

std::string world::desired(const std::string& backend) const {
    std::string result;
    const auto& now_there = slots_of(backend);
    const auto all = desire(backend);
    for (std::size_t i = 0; i != all.size(); ++i) {
        const desired_slot& d = all[i];
        result +=
            fmt::format("{}{}={}", result.empty() ? "" : " ", d.member.value_or(d.id.server()), to_string(d.state));
        if (d.cut && now_there[i].admin != admin_state::maint)
            result += "+cut";
        if (!d.check)
            result += "+unchecked";
        if (d.weight)
            result += fmt::format("+w{}", *d.weight);
    }
    return result;
}

std::string world::why(const std::string& backend, const std::string& member) const {
    for (const desired_slot& d : desire(backend)) {
        if (d.member == member)
            return d.why;
    }
    return "no slot";
}

std::string world::plan(const std::string& backend) const {
    std::string result;
    for (const planned& p : agent::plan(slots_of(backend), desire(backend)))
        result += (result.empty() ? "" : "; ") + render(p.what);
    return result;
}

world& world::settle(const std::string& backend) {
    for (int round = 0; round != 5; ++round) {
        const auto steps = agent::plan(slots_of(backend), desire(backend));
        for (const planned& p : steps) {
            if (p.when == steps.front().when)
                apply(observed_.at(backend).slots, p.what);
        }
    }
    return *this;
}

} // namespace pointsman::test
