// Pure: see report.hpp; nlohmann is the one library in here.
#include "agent/report.hpp"

#include "agent/desire.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace pointsman::agent {

namespace {

using nlohmann::ordered_json; // as documented: people read this too

template<class T>
ordered_json or_null(const std::optional<T>& value) {
    return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json or_null(const std::string& text) {
    return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

ordered_json address_or_null(const std::optional<runtime_api::address>& where) {
    return where ? ordered_json(to_string(*where)) : ordered_json(nullptr);
}

// Milliseconds are enough.
double seconds(std::chrono::nanoseconds time) {
    return static_cast<double>(std::chrono::duration_cast<std::chrono::milliseconds>(time).count()) / 1000;
}

std::string_view word(conduct how) {
    switch (how) {
        case conduct::acts: return "acts";
        case conduct::paused: return "paused";
        case conduct::shadow: return "shadow";
    }
    return "";
}

std::string_view word(config::pool_role role) {
    return role == config::pool_role::primary ? "primary" : "replica";
}

ordered_json check_json(const check& what, const health& h, const cluster& c, time_point now) {
    ordered_json result = {{"path", what.path},
                           {"role", word(what.role)},
                           {"answer", h.answered ? ordered_json(to_string(h.last.what)) : ordered_json(nullptr)}};
    if (!h.answered)
        return result;
    result["said"] = describe(h);
    result["in_a_row"] = h.in_a_row;
    result["for"] = seconds(now - h.since);
    result["asked"] = seconds(now - h.sent);
    result["latency"] = std::chrono::duration<double>(h.latency).count();
    result["status"] = or_null(h.status);
    result["timeline"] = h.body ? or_null(h.body->timeline) : nullptr;
    result["wal"] = h.body ? or_null(h.body->wal) : nullptr;
    result["asked_in_this_term"] = h.sent >= c.leader_since;
    return result;
}

ordered_json member_json(const std::string& name, const member& m, const cluster& c, time_point now) {
    ordered_json checks = ordered_json::array();
    for (const auto& [what, h] : m.probes)
        checks.push_back(check_json(what, h, c, now));
    const auto& rest = m.record.rest;
    return {{"name", name},
            {"in_etcd", m.present},
            {"gone_from_etcd", m.present ? ordered_json(nullptr) : ordered_json(seconds(now - m.absent_since))},
            {"address", address_or_null(m.connect)},
            {"proxy_address", address_or_null(m.proxy)},
            {"rest_api", rest ? ordered_json(rest->where.host + ':' + std::to_string(rest->where.port)) : nullptr},
            {"says_of_itself", m.record.state + ", " + m.record.role},
            {"leads", c.leader && c.leader->name == name},
            {"asked_to_leave", is_leaving(c, name, now)},
            {"lag", or_null(lag_behind(c, name))},
            {"checks", std::move(checks)}};
}

ordered_json slot_json(const pool_outlook& pool, std::size_t i) {
    const runtime_api::slot& s = pool.slots[i];
    const slot_row row = row_of(s);
    ordered_json result = {{"slot", row.slot},
                           {"member", nullptr},
                           {"address", or_null(row.address)},
                           {"port", or_null(row.port)},
                           {"state", row.state},
                           {"operational", row.operational},
                           {"weight", row.weight},
                           {"sessions", nullptr},
                           {"own_check", s.check_configured ? ordered_json(s.check_enabled) : ordered_json(nullptr)},
                           {"desired", nullptr}};
    if (const auto count = pool.sessions.find(s.id); count != pool.sessions.end())
        result["sessions"] = count->second;
    if (i >= pool.desired.size())
        return result;
    const desired_slot& want = pool.desired[i];
    ordered_json commands = ordered_json::array();
    for (const planned& step : pool.steps) {
        if (slot_of(step.what) == s.id)
            commands.push_back({{"command", render(step.what)}, {"why", step.why}});
    }
    result["member"] = or_null(want.member);
    result["desired"] = to_string(want.state);
    result["why"] = want.why;
    result["until"] = want.until;
    result["commands"] = std::move(commands);
    return result;
}

ordered_json pool_json(const pool_outlook& pool) {
    ordered_json slots = ordered_json::array();
    for (std::size_t i = 0; i != pool.slots.size(); ++i)
        slots.push_back(slot_json(pool, i));
    return {{"backend", pool.settings.backend}, {"role", word(pool.settings.role)}, {"check", pool.settings.check},
            {"in_step", pool.in_step()},        {"trouble", or_null(pool.trouble)}, {"slots", std::move(slots)}};
}

ordered_json cluster_json(const followed_cluster& of, const std::vector<pool_outlook>& pools, time_point now) {
    const cluster& c = of.state;
    ordered_json leader = nullptr;
    if (c.leader)
        leader = {{"name", c.leader->name}, {"term", c.leader->term}, {"for", seconds(now - c.leader_since)}};
    ordered_json members = ordered_json::array();
    for (const auto& [name, m] : c.members)
        members.push_back(member_json(name, m, c, now));
    ordered_json its_pools = ordered_json::array();
    for (const pool_outlook& pool : pools) {
        if (&pool.of.state == &c)
            its_pools.push_back(pool_json(pool));
    }
    return {{"scope", of.settings.scope},
            {"etcd",
             {{"known", c.known},
              {"readable", readable(c, of.poll_interval, now)},
              {"read", c.known ? ordered_json(seconds(now - c.confirmed)) : ordered_json(nullptr)}}},
            {"leader", std::move(leader)},
            {"last_leader", or_null(c.last_leader)},
            {"members", std::move(members)},
            {"pools", std::move(its_pools)}};
}

} // namespace

std::string render_state(const passes& decided, time_point now) {
    const auto pools = decided.outlook(now);
    ordered_json haproxy = {{"trouble", or_null(decided.trouble())}};
    if (const runtime_api::process_info* process = decided.process()) {
        haproxy["version"] = process->version;
        haproxy["pid"] = process->pid;
    }
    ordered_json all = ordered_json::array();
    for (const followed_cluster& c : decided.clusters())
        all.push_back(cluster_json(c, pools, now));
    const ordered_json document = {{"conduct", word(decided.given().how)},
                                   {"until", or_null(decided.given().until)},
                                   {"haproxy", std::move(haproxy)},
                                   {"clusters", std::move(all)}};
    // A member's name need not be UTF-8; dump() would throw.
    return document.dump(1, ' ', false, ordered_json::error_handler_t::replace) + '\n';
}

std::vector<std::string> complaints(const passes& decided, time_point now) {
    std::vector<std::string> result;
    if (decided.given().how == conduct::paused)
        result.push_back("paused until " + decided.given().until + ": nothing is sent to HAProxy");
    if (!decided.process() || !decided.trouble().empty())
        result.push_back(decided.trouble().empty() ? "haproxy: not read yet" : decided.trouble());
    for (const pool_outlook& pool : decided.outlook(now)) {
        const std::string name = "cluster " + pool.of.settings.scope + ", pool " + pool.settings.backend + ": ";
        if (!pool.trouble.empty())
            result.push_back(name + pool.trouble);
        else if (pool.desired.empty())
            result.push_back(name + "not known yet");
        else if (!pool.in_step())
            result.push_back(name + "not in step: `" + render(pool.steps.front().what) + "` is to be sent");
    }
    return result;
}

} // namespace pointsman::agent
