#include "node.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pointsman::sim {

using namespace std::chrono_literals;

namespace {

constexpr auto retry_timeout = 10s;

std::string_view word(node::postgres pg) {
    switch (pg) {
        case node::postgres::stopped: return "stopped";
        case node::postgres::starting: return "starting";
        case node::postgres::running: return "running";
        case node::postgres::stopping: return "stopping";
        case node::postgres::crashed: return "crashed";
    }
    return "?";
}

} // namespace

node* patroni::find(const std::string& name) const {
    const auto it = std::ranges::find_if(nodes, [&name](const auto& n) { return n->name == name; });
    return it == nodes.end() ? nullptr : it->get();
}

node* patroni::at(int host) const {
    const auto it = std::ranges::find_if(nodes, [host](const auto& n) { return n->host == host && n->present; });
    return it == nodes.end() ? nullptr : it->get();
}

node::node(patroni& of, std::string own_name, int own_host)
    : name(std::move(own_name)), host(own_host), of_(of), bell_(of.clock), life_(of.clock) {}

// --- what is seen from outside

node::rest_answer node::ask(const std::string& path) const {
    if (!patroni_up)
        return {{}, {}, true};
    if (frozen || rest_ == rest::hung)
        return {};
    if (rest_ == rest::garbage)
        return {200, "<html>not Patroni's</html>", false};
    std::string state(word(pg));
    std::string role = role_;
    bool leads = leads_ && of_.clock.now() - lock_seen_ < of_.ttl;
    if (rest_ == rest::unknown_state)
        state = "unknown";
    if (rest_ == rest::says_master) {
        role = "master";
        leads = true;
    }
    const bool replica = pg == postgres::running && role == "replica";
    const bool yes = path.starts_with("/master") ? leads : replica || (path == "/read-only" && leads);
    std::string body = fmt::format(R"({{"state": "{}", "role": "{}")", state, role);
    if (pg == postgres::running && state == "running")
        body += fmt::format(R"(, "server_version": 150018, "xlog": {{"{}": 100663392}}, "timeline": {})",
                            primary ? "location" : "replayed_location", timeline);
    body += R"(, "patroni": {"version": "3.0.2", "scope": "demo"}})";
    return {yes ? 200 : 503, std::move(body), false};
}

std::optional<bool> node::port_open() const {
    return pg == postgres::running || pg == postgres::stopping;
}

bool node::takes_sessions() const {
    return pg == postgres::running && !(frozen && !only_patroni);
}

bool node::fit_primary() const {
    return alive() && rest_ == rest::fine && leads_ && role_ == "master" && is_writable() && !cut_off_from_etcd &&
           of_.store.get(of_.key("members/" + name)) == told_ && !told_.empty();
}

bool node::fit_replica(const node& leader) const {
    return alive() && rest_ == rest::fine && pg == postgres::running && !primary && role_ == "replica" && streaming &&
           timeline == leader.timeline && !cut_off_from_etcd && of_.store.get(of_.key("members/" + name)) == told_ &&
           !told_.empty();
}

bool node::may_lead() const {
    return alive() && !cut_off_from_etcd && pg == postgres::running;
}

// --- what happens to it

void node::start() {
    if (patroni_up || !present)
        return;
    patroni_up = true;
    leads_ = false;
    failsafe_active_ = false;
    told_.clear();
    lease_ = 0;
    role_ = primary && pg == postgres::running ? "master" : "replica";
    etcd_seen_ = of_.clock.now();
    life_.spawn(run());
}

void node::kill_patroni() {
    life_.clear();
    patroni_up = false;
    leads_ = false;
}

void node::crash() {
    kill_patroni();
    frozen = false;
    pg = postgres::stopped;
    writable = false;
    streaming = false;
    stop_sessions();
}

void node::crash_postgres() {
    if (pg != postgres::running)
        return;
    pg = postgres::crashed;
    writable = false;
    stop_sessions();
    bell_.ring();
}

void node::freeze(bool patroni_only) {
    frozen = true;
    only_patroni = patroni_only;
}

// A lock that another one took meanwhile is taken back by versions that never look.
void node::thaw() {
    frozen = false;
    if (patroni_up && leads_ && primary && of_.steals_lock && reaches_etcd() && of_.chance.percent(50)) {
        lease_ = of_.store.grant(of_.ttl);
        of_.store.put(of_.key("leader"), name, lease_);
    }
    bell_.ring();
}

void node::leave() {
    crash();
    present = false;
    of_.store.erase(of_.key("members/" + name));
    if (of_.leader() == name)
        of_.store.erase(of_.key("leader"));
}

void node::move(int to) {
    stop_sessions();
    host = to;
    bell_.ring();
}

// --- Patroni's loop

routine<> node::take(duration time) {
    co_await pause(of_.clock, time);
    while (frozen)
        co_await pause(of_.clock, 50ms);
}

routine<> node::run() {
    for (;;) {
        bell_.rung = false;
        co_await cycle();
        if (bell_.rung)
            co_await take(30ms);
        const auto next = of_.clock.now() + of_.loop_wait;
        co_await bell_.until(next);
        const auto reaction = of_.chance.between(5ms, 60ms);
        co_await take(reaction);
    }
}

void node::tell_etcd() {
    if (!lease_ || !of_.store.keep_alive(lease_)) {
        lease_ = of_.store.grant(of_.ttl);
        told_.clear();
    }
    const std::string value =
        fmt::format(R"({{"conn_url":"postgres://10.0.0.{0}:5432/postgres","api_url":"http://10.0.0.{0}:8008/patroni",)"
                    R"("state":"{1}","role":"{2}","version":"3.0.2","xlog_location":100663392,"timeline":{3}}})",
                    host, word(pg), role_, timeline);
    const auto key = of_.key("members/" + name);
    if (told_ == value && of_.store.get(key))
        return;
    told_ = value;
    of_.store.put(key, value, lease_);
}

routine<> node::cycle() {
    if (!reaches_etcd()) {
        const bool peers = std::ranges::all_of(of_.nodes, [](const auto& n) { return !n->present || n->alive(); });
        if (primary && pg == postgres::running) {
            if (of_.failsafe && peers) {
                lock_seen_ = of_.clock.now();
                leads_ = true;
            } else if (of_.clock.now() - etcd_seen_ > retry_timeout) {
                co_await demote();
            }
        }
        co_return;
    }
    etcd_seen_ = of_.clock.now();
    tell_etcd();
    const auto leader = of_.leader();
    if (leader == name) {
        leads_ = true;
        lock_seen_ = of_.clock.now();
        if (pg == postgres::crashed || pg == postgres::stopped) {
            co_await start_postgres(of_.restarts_as_primary && primary);
            bell_.ring();
        } else if (!primary) {
            co_await promote();
        } else if (const auto asked = of_.store.get(of_.key("failover"));
                   !of_.ignores_requests && asked && asked->find(R"("leader":")" + name + '"') != asked->npos) {
            co_await hand_over();
        } else if (of_.store.get(of_.key("leader")) == name) {
            role_ = "master";
            of_.store.put(of_.key("status"), R"({"optime":100663392})");
        }
        tell_etcd();
        co_return;
    }
    leads_ = false;
    if (!leader) {
        if (primary && pg == postgres::running) {
            const auto says_no = of_.chance.between(50ms, 1500ms); // 503 though it takes writes (facts 1.4)
            co_await take(says_no);
            if (of_.store.create(of_.key("leader"), name, lease_)) {
                leads_ = true;
                lock_seen_ = of_.clock.now();
                bell_.ring();
            }
        } else if (pg == postgres::running) {
            co_await race();
        } else {
            co_await start_postgres(false);
            bell_.ring();
        }
    } else if (primary && pg == postgres::running) {
        co_await demote();
    } else if (pg != postgres::running) {
        co_await start_postgres(false);
        bell_.ring();
    } else if (const node* to = of_.find(*leader); to && to->primary && to->is_writable() && !streaming) {
        if (timeline != to->timeline) { // it came up on the old one: yes for half a second, then it is rewound
            const auto yes_for = of_.chance.between(300ms, 700ms);
            co_await take(yes_for);
            pg = postgres::stopped;
            stop_sessions();
            co_await start_postgres(false);
            timeline = to->timeline;
        }
        streaming = true;
        tell_etcd();
    } else if (to && (!to->is_writable() || to->timeline != timeline)) {
        streaming = streaming && to->timeline == timeline;
        co_await take(500ms);
        bell_.ring();
    }
}

// The one that is to be followed first of all has the newest timeline; it waits for those whose REST API hangs.
routine<> node::race() {
    const bool hung = std::ranges::any_of(
        of_.nodes, [](const auto& n) { return n->present && n->patroni_up && (n->frozen || n->rest_ == rest::hung); });
    const auto asks = of_.chance.between(100ms, 350ms) + (hung ? 2000ms : 0ms);
    co_await take(asks);
    const bool newer = std::ranges::any_of(of_.nodes, [this](const auto& n) {
        return n.get() != this && n->present && n->may_lead() && n->timeline > timeline;
    });
    const auto asked = of_.store.get(of_.key("failover"));
    const bool for_another =
        asked && asked->find(R"("member":)") != asked->npos && asked->find(R"("member":")" + name + '"') == asked->npos;
    if (newer || for_another || !reaches_etcd() || pg != postgres::running || primary) {
        co_await take(1s);
        bell_.ring();
        co_return;
    }
    if (!of_.store.create(of_.key("leader"), name, lease_))
        co_return;
    leads_ = true;
    lock_seen_ = of_.clock.now();
    co_await promote();
}

routine<> node::promote() {
    const auto recovery = of_.chance.between(200ms, 1200ms);
    role_ = of_.chance.percent(50) ? "promoted" : "replica";
    co_await take(recovery);
    if (pg != postgres::running || of_.leader() != name)
        co_return bell_.ring();
    primary = true;
    streaming = false;
    timeline = ++of_.newest_timeline;
    writable = true;
    const auto body_late = of_.chance.between(0ms, 300ms);
    co_await take(body_late);
    role_ = "master";
    of_.store.put(of_.key("failover"), "{}");
    tell_etcd();
}

routine<> node::demote() {
    role_ = "demoted";
    pg = postgres::stopping;
    writable = false;
    const auto stops = of_.chance.between(100ms, 1500ms);
    co_await take(stops);
    leads_ = false;
    pg = postgres::stopped;
    primary = false;
    stop_sessions();
    co_await start_postgres(false);
    bell_.ring();
}

routine<> node::hand_over() {
    const auto foreseen = of_.chance.between(50ms, 500ms);
    co_await take(foreseen);
    pg = postgres::stopping; // the REST API goes on to answer 200
    writable = false;
    const auto stops = of_.chance.between(1000ms, 2000ms);
    co_await take(stops);
    stop_sessions();
    pg = postgres::stopped;
    primary = false;
    role_ = "demoted";
    leads_ = false;
    if (of_.leader() == name && reaches_etcd())
        of_.store.erase(of_.key("leader"));
    co_await start_postgres(false);
    bell_.ring();
}

routine<> node::start_postgres(bool as_primary) {
    streaming = false;
    const auto waits = of_.chance.between(500ms, 4000ms);
    co_await take(waits);
    pg = postgres::starting;
    primary = as_primary;
    role_ = as_primary ? "master" : "replica";
    const auto starts = of_.chance.between(200ms, 3000ms);
    co_await take(starts);
    pg = postgres::running;
    writable = as_primary;
}

} // namespace pointsman::sim
