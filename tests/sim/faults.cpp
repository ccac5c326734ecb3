#include "faults.hpp"

#include "world.hpp"

#include <algorithm>

namespace pointsman::sim {

using namespace std::chrono_literals;
using runtime_api::admin_state;

namespace {

// Takes a part from the agent while it lives.
class without {
public:
    without(world& w, part p) : w_(w), part_(p) { w_.judge.take(p); }
    ~without() { w_.judge.give_back(part_); }
    without(const without&) = delete;
    without& operator=(const without&) = delete;

private:
    world& w_;
    part part_;
};

node* some_node(world& w) {
    auto all = w.present();
    return w.chance.pick(all);
}

node* leader_or_some(world& w) {
    node* leader = w.leader();
    return leader ? leader : some_node(w);
}

node* some_replica(world& w) {
    auto all = w.replicas();
    return all.empty() ? some_node(w) : w.chance.pick(all);
}

pause time(world& w, std::chrono::milliseconds from, std::chrono::milliseconds to) {
    return pause(w.clock, w.chance.between(from, to));
}

// --- nodes

// Mostly longer than a lease.
routine<> leader_crashes(world& w) {
    node* n = leader_or_some(w);
    n->crash();
    co_await time(w, 1s, 50s);
    n->start();
}

routine<> replica_crashes(world& w) {
    node* n = some_replica(w);
    n->crash();
    co_await time(w, 500ms, 40s);
    n->start();
}

routine<> leader_restarts_at_once(world& w) {
    node* n = leader_or_some(w);
    n->crash();
    co_await time(w, 50ms, 900ms);
    n->start();
}

routine<> everybody_crashes(world& w) {
    for (node* n : w.present())
        n->crash();
    co_await time(w, 1s, 60s);
    for (node* n : w.present())
        n->start();
}

routine<> patroni_dies(world& w) {
    node* n = w.chance.percent(70) ? leader_or_some(w) : some_replica(w);
    n->kill_patroni();
    co_await time(w, 1s, 60s);
    n->start();
}

routine<> postgres_crashes(world& w) {
    node* n = w.chance.percent(70) ? leader_or_some(w) : some_replica(w);
    n->crash_postgres();
    co_await time(w, 1s, 20s);
}

routine<> node_freezes(world& w) {
    node* n = w.chance.percent(70) ? leader_or_some(w) : some_replica(w);
    n->freeze(w.chance.percent(50));
    co_await time(w, 500ms, 60s);
    if (n->frozen)
        n->thaw();
}

routine<> rest_is_strange(world& w) {
    const without nodes(w, part::nodes);
    node* n = w.chance.percent(60) ? leader_or_some(w) : some_replica(w);
    static constexpr std::array kinds{node::rest::hung, node::rest::garbage, node::rest::unknown_state};
    n->rest_becomes(w.chance.pick(kinds));
    co_await time(w, 500ms, 45s);
    n->rest_becomes(node::rest::fine);
}

// The key and what HAProxy serves are as before: only HAProxy's check or the grace could take the leader out.
routine<> leader_rest_hangs(world& w) {
    node* n = leader_or_some(w);
    n->rest_becomes(node::rest::hung);
    co_await time(w, 1s, 25s);
    n->rest_becomes(node::rest::fine);
}

// A replica that says it is a master, as a stale primary does.
routine<> replica_lies(world& w) {
    node* n = some_replica(w);
    if (n != w.leader())
        n->rest_becomes(node::rest::says_master);
    co_await time(w, 500ms, 30s);
    n->rest_becomes(node::rest::fine);
}

void ask_for_switchover(world& w, const node& from, const std::string& more) {
    w.store.put(w.cluster.key("failover"), fmt::format(R"({{"leader":"{}"{}}})", from.name, more));
}

routine<> switchover(world& w) {
    const node* from = leader_or_some(w);
    const node* to = some_replica(w);
    ask_for_switchover(w, *from, w.chance.percent(50) ? fmt::format(R"(,"member":"{}")", to->name) : "");
    co_await time(w, 1s, 20s);
}

// Two, one into the other.
routine<> switchovers(world& w) {
    for (int i = 0; i != 3; ++i) {
        ask_for_switchover(w, *leader_or_some(w), "");
        co_await time(w, 200ms, 6s);
    }
}

// Asked for, not carried out, and mostly not taken back in time either.
routine<> switchover_in_vain(world& w) {
    w.cluster.ignores_requests = true;
    ask_for_switchover(w, *leader_or_some(w), "");
    co_await time(w, 1s, 90s);
    w.store.put(w.cluster.key("failover"), "{}");
    w.cluster.ignores_requests = false;
}

routine<> node_cut_off_from_etcd(world& w) {
    node* n = w.chance.percent(70) ? leader_or_some(w) : some_replica(w);
    n->cut_off_from_etcd = true;
    co_await time(w, 2s, 60s);
    n->cut_off_from_etcd = false;
    n->notice();
}

routine<> member_joins(world& w) {
    if (w.present().size() < 5)
        w.add_node();
    co_await time(w, 1s, 10s);
}

routine<> member_leaves(world& w) {
    if (w.present().size() > 2)
        some_replica(w)->leave();
    co_await time(w, 1s, 10s);
}

routine<> member_moves(world& w) {
    node* n = some_node(w);
    const bool restarts = w.chance.percent(50);
    if (restarts)
        n->crash();
    w.judge.moved();
    int host = n->host;
    while (w.cluster.at(host))
        host = 50 + static_cast<int>(w.chance.below(150));
    n->move(host);
    if (restarts) {
        co_await time(w, 100ms, 5s);
        n->start();
    }
    co_await time(w, 1s, 10s);
}

// Each of the two finds itself at the other's address; etcd hears of it one after the other.
routine<> members_swap(world& w) {
    node* a = leader_or_some(w);
    node* b = some_replica(w);
    const bool restart = w.chance.percent(50);
    if (restart) {
        a->crash();
        b->crash();
    }
    w.judge.moved();
    const int host = a->host;
    a->move(b->host);
    b->move(host);
    co_await time(w, 100ms, 5s);
    a->start();
    b->start();
    co_await time(w, 1s, 10s);
}

// --- etcd

routine<> etcd_is(world& w, etcd::health how, bool all) {
    const without etcd_part(w, part::etcd);
    const std::size_t one = w.chance.below(w.store.endpoints());
    for (std::size_t i = 0; i != w.store.endpoints(); ++i) {
        if (all || i == one)
            w.store.set(i, how);
    }
    co_await time(w, 500ms, 60s);
    if (how == etcd::health::away)
        w.store.refresh_leases();
    for (std::size_t i = 0; i != w.store.endpoints(); ++i)
        w.store.set(i, etcd::health::fine);
}

routine<> etcd_away(world& w) {
    return etcd_is(w, etcd::health::away, true);
}
routine<> etcd_hangs(world& w) {
    return etcd_is(w, etcd::health::hung, true);
}
routine<> endpoint_away(world& w) {
    return etcd_is(w, etcd::health::away, false);
}
routine<> endpoint_hangs(world& w) {
    return etcd_is(w, etcd::health::hung, false);
}
routine<> endpoint_behind(world& w) {
    return etcd_is(w, etcd::health::behind, false);
}

void others_become(world& w, std::size_t than, etcd::health how) {
    for (std::size_t i = 0; i != w.store.endpoints(); ++i) {
        if (i != than)
            w.store.set(i, how);
    }
}

// One of three is another etcd's, which had this cluster once: who knows its store does not go to that one where its
// watch breaks, nor where the others are away for a while.
routine<> endpoint_is_foreign(world& w) {
    bool all_fine = w.store.endpoints() > 2;
    for (std::size_t i = 0; i != w.store.endpoints(); ++i)
        all_fine = all_fine && w.store.state_of(i) == etcd::health::fine;
    if (!all_fine) // the only one that answers is believed after its trial
        co_return;
    const std::size_t one = w.chance.below(w.store.endpoints());
    w.store.set(one, etcd::health::foreign);
    ask_for_switchover(w, *leader_or_some(w), "");
    co_await time(w, 18s, 25s);
    {
        const without etcd_part(w, part::etcd);
        for (int i = 0; i != 5; ++i) {
            w.store.break_watches();
            co_await time(w, 100ms, 2s);
        }
        others_become(w, one, etcd::health::away);
        co_await time(w, 1s, 25s);
        w.store.refresh_leases();
        others_become(w, one, etcd::health::fine);
    }
    co_await time(w, 1s, 10s);
    w.store.set(one, etcd::health::fine);
}

routine<> agent_cut_off_from_etcd(world& w) {
    const without etcd_part(w, part::etcd);
    w.store.answers = false;
    co_await time(w, 500ms, 60s);
    w.store.break_watches();
    w.store.answers = true;
}

routine<> watch_breaks(world& w) {
    const without etcd_part(w, part::etcd);
    for (int i = 0; i != 5; ++i) {
        w.store.break_watches();
        co_await time(w, 50ms, 1s);
    }
}

// Nothing comes on it, and it stays open: the poll finds out.
routine<> watch_falls_silent(world& w) {
    const without etcd_part(w, part::etcd);
    w.store.silence_watches();
    co_await time(w, 1s, 20s);
    w.store.break_watches();
}

routine<> etcd_is_slow(world& w) {
    const without etcd_part(w, part::etcd);
    w.store.slowness = w.chance.between(50ms, 1500ms);
    co_await time(w, 1s, 20s);
    w.store.slowness = 0ms;
}

routine<> keys_deleted(world& w) {
    w.store.erase_all();
    co_await time(w, 1s, 15s);
}

routine<> members_deleted(world& w) {
    for (const node* n : w.present())
        w.store.erase(w.cluster.key("members/" + n->name));
    co_await time(w, 1s, 15s);
}

routine<> etcd_wiped(world& w) {
    const without etcd_part(w, part::etcd);
    w.store.wipe(w.chance.percent(50));
    co_await time(w, 1s, 15s);
}

// An older copy: who was leader then may be another one.
routine<> etcd_restored(world& w) {
    const without etcd_part(w, part::etcd);
    w.store.back_up();
    if (w.chance.percent(70))
        ask_for_switchover(w, *leader_or_some(w), "");
    co_await time(w, 8s, 20s);
    w.store.restore();
    co_await time(w, 1s, 15s);
}

routine<> garbage_in_etcd(world& w) {
    const without etcd_part(w, part::etcd);
    static const std::array<std::string, 6> values{
        "",
        "{",
        R"({"conn_url": 5, "api_url": []})",
        R"({"conn_url":"postgres://0.0.0.0:5432/p"})",
        R"({"conn_url":"postgres://10.0.0.9:70000/p","api_url":"http://10.0.0.9:8008/p","state":"running"})",
        "\xff\xfe set server primary/pg1 state ready;"};
    static const std::array<std::string, 5> keys{"members/x y", "members/;n", "status", "failover", "config"};
    std::vector<std::string> put;
    for (int i = 0; i != 6; ++i) {
        put.push_back(w.cluster.key(w.chance.pick(keys)));
        w.store.put(put.back(), w.chance.pick(values));
        co_await time(w, 10ms, 3s);
    }
    for (const std::string& key : put)
        w.store.erase(key);
}

// --- HAProxy

routine<> reload(world& w) {
    w.judge.new_process();
    w.proxy.reload();
    co_await time(w, 100ms, 3s);
}

routine<> reloads(world& w) {
    for (int i = 0; i != 5; ++i) {
        w.judge.new_process();
        w.proxy.reload();
        co_await time(w, 20ms, 400ms);
    }
}

// A reload while the agent changes things.
routine<> reload_in_switchover(world& w) {
    ask_for_switchover(w, *leader_or_some(w), "");
    for (int i = 0; i != 8; ++i) {
        co_await time(w, 100ms, 900ms);
        w.judge.new_process();
        w.proxy.reload();
    }
}

routine<> haproxy_restarts(world& w) {
    const without haproxy_part(w, part::haproxy);
    w.set_socket(world::socket_state::refused);
    w.proxy.stop();
    co_await time(w, 20ms, 10s);
    if (w.chance.percent(30))
        w.proxy.state_file.clear(); // somebody has removed it
    w.judge.new_process();
    w.proxy.start();
    w.set_socket(world::socket_state::fine);
}

routine<> socket_is(world& w, world::socket_state how) {
    const without haproxy_part(w, part::haproxy);
    w.set_socket(how);
    co_await time(w, 100ms, 30s);
    w.judge.replaced();
    w.set_socket(world::socket_state::fine);
}

routine<> socket_refused(world& w) {
    return socket_is(w, world::socket_state::refused);
}
routine<> socket_hangs(world& w) {
    return socket_is(w, world::socket_state::hung);
}
routine<> answers_are_cut(world& w) {
    return socket_is(w, world::socket_state::cut);
}

routine<> commands_fail(world& w) {
    ask_for_switchover(w, *leader_or_some(w), "");
    const auto how = world::socket_state::failing;
    co_await socket_is(w, how);
}

routine<> socket_is_slow(world& w) {
    const without haproxy_part(w, part::haproxy);
    w.socket_delay = w.chance.between(5ms, 600ms);
    ask_for_switchover(w, *leader_or_some(w), "");
    co_await time(w, 1s, 20s);
    w.socket_delay = 0ms;
}

routine<> state_file_is_not_written(world& w) {
    const without haproxy_part(w, part::haproxy);
    w.disk_full = true;
    ask_for_switchover(w, *leader_or_some(w), "");
    co_await time(w, 5s, 15s);
    w.judge.replaced();
    w.judge.by_hand();
    w.proxy.reload();
    w.disk_full = false;
}

// Somebody with the same socket.
routine<> slots_by_hand(world& w) {
    for (int i = 0; i != 4; ++i) {
        if (!w.proxy.down) {
            w.judge.by_hand();
            const std::size_t slot = w.chance.below(w.proxy.now().slots.size());
            const auto& id = w.proxy.now().slots[slot].id;
            const auto other = w.proxy.now().slots[w.chance.below(w.proxy.now().slots.size())].where;
            static constexpr std::array states{admin_state::ready, admin_state::drain, admin_state::maint};
            const std::vector<runtime_api::command> any{
                runtime_api::set_state{id, w.chance.pick(states)}, runtime_api::set_address{id, other},
                runtime_api::set_check{id, false}, runtime_api::set_weight{id, 7}, runtime_api::shutdown_sessions{id}};
            const std::vector<runtime_api::command> one{any[w.chance.below(100) < 60 ? 0 : w.chance.below(any.size())]};
            w.tell("somebody", [&one] { return render(one.front()); });
            w.proxy.carry_out(one, by::somebody);
        }
        co_await time(w, 5ms, 3s);
    }
}

// --- the agent and its network

routine<> agent_killed(world& w) {
    const without agent_part(w, part::agent);
    for (std::size_t i = 1 + w.chance.below(4); i != 0; --i) {
        w.kill_agent();
        co_await time(w, 1ms, 4s);
        if (!w.running)
            w.start_agent();
        co_await time(w, 1ms, 1s);
    }
}

routine<> agent_killed_in_switchover(world& w) {
    const without agent_part(w, part::agent);
    ask_for_switchover(w, *leader_or_some(w), "");
    for (int i = 0; i != 12; ++i) {
        co_await time(w, 1ms, 700ms);
        w.kill_agent();
        co_await time(w, 1ms, 100ms);
        if (!w.running)
            w.start_agent();
    }
}

routine<> agent_frozen(world& w) {
    const without agent_part(w, part::agent);
    const auto lasts = w.chance.between(200ms, 20000ms);
    if (w.running)
        w.running->freeze(lasts);
    co_await pause(w.clock, lasts);
}

routine<> wall_clock_jumps(world& w) {
    w.wall_offset += w.chance.percent(50) ? 3600s : -3600s;
    co_await time(w, 100ms, 5s);
}

routine<> agent_cut_off_from_a_node(world& w) {
    const without nodes(w, part::nodes);
    const int host = some_node(w)->host;
    w.cut_off.insert(host);
    co_await time(w, 500ms, 45s);
    w.cut_off.erase(host);
}

routine<> agent_cut_off_from_all_nodes(world& w) {
    const without nodes(w, part::nodes);
    for (const node* n : w.present())
        w.cut_off.insert(n->host);
    co_await time(w, 500ms, 45s);
    w.cut_off.clear();
}

routine<> nodes_are_slow(world& w) {
    const without nodes(w, part::nodes);
    w.slow_rest = w.chance.between(20ms, 900ms);
    co_await time(w, 1s, 20s);
    w.slow_rest = 0ms;
}

// --- several that belong together

routine<> rest_hangs_after_switchover(world& w) {
    const std::string from = w.cluster.leader().value_or("");
    ask_for_switchover(w, *leader_or_some(w), "");
    for (int i = 0; i != 200 && w.cluster.leader().value_or(from) == from; ++i)
        co_await pause(w.clock, 50ms);
    co_await time(w, 300ms, 3s);
    node* n = leader_or_some(w);
    n->rest_becomes(node::rest::hung);
    co_await time(w, 4s, 25s);
    n->rest_becomes(node::rest::fine);
}

// An agent that starts does not know the leader, whose key is gone; then it hears no more of etcd.
routine<> leader_is_unknown(world& w) {
    const without etcd_part(w, part::etcd);
    const without agent_part(w, part::agent);
    node* n = leader_or_some(w);
    const bool dies = w.chance.percent(60);
    if (dies)
        n->kill_patroni();
    for (const node* other : w.present()) {
        if (w.chance.percent(other == n ? 60 : 70))
            w.store.erase(w.cluster.key("members/" + other->name));
    }
    co_await time(w, 20ms, 200ms);
    if (w.chance.percent(70)) {
        w.kill_agent();
        w.start_agent();
    }
    co_await time(w, 300ms, 3s);
    w.store.answers = !dies;
    co_await time(w, 5s, 50s);
    w.store.break_watches();
    w.store.answers = true;
}

// By the agent's probes alone: who the leader is now, etcd has not told it.
routine<> switchover_without_etcd(world& w) {
    const without etcd_part(w, part::etcd);
    w.store.answers = false;
    co_await time(w, 200ms, 2s);
    ask_for_switchover(w, *leader_or_some(w), "");
    co_await time(w, 60s, 80s);
    w.store.break_watches();
    w.store.answers = true;
}

// The agent has followed a switchover by probes alone; then the leader of before, which it could not reach, is heard
// again and says yes still.
routine<> stale_leader_comes_back(world& w) {
    const without etcd_part(w, part::etcd);
    const without nodes(w, part::nodes);
    node* n = leader_or_some(w);
    w.store.answers = false;
    w.cut_off.insert(n->host);
    co_await time(w, 200ms, 2s);
    ask_for_switchover(w, *n, "");
    co_await time(w, 18s, 30s);
    n->rest_becomes(node::rest::says_master);
    w.cut_off.clear();
    co_await time(w, 2s, 8s);
    n->rest_becomes(node::rest::fine);
    w.store.break_watches();
    w.store.answers = true;
}

// Every node says that it is the writer, etcd cannot be read, and somebody gives them all their slots.
routine<> second_slot_by_hand(world& w) {
    const without etcd_part(w, part::etcd);
    const without nodes(w, part::nodes);
    w.store.answers = false;
    for (node* n : w.replicas())
        n->rest_becomes(node::rest::says_master);
    co_await time(w, 14s, 20s);
    for (std::size_t i = 0; i != w.proxy.now().slots.size() && !w.proxy.down; ++i) {
        const auto& s = w.proxy.now().slots[i];
        if (s.id.backend() != "primary" || s.where.ip() == "127.0.0.1")
            continue;
        w.judge.by_hand();
        const std::vector<runtime_api::command> one{runtime_api::set_state{s.id, admin_state::ready}};
        w.proxy.carry_out(one, by::somebody);
    }
    co_await time(w, 4s, 8s);
    for (node* n : w.present())
        n->rest_becomes(node::rest::fine);
    w.store.break_watches();
    w.store.answers = true;
}

// One that has said so all the time becomes the leader: its yes is the same as before, its term is new.
routine<> liar_becomes_leader(world& w) {
    node* to = some_replica(w);
    if (to == w.leader())
        co_return;
    to->rest_becomes(node::rest::says_master);
    co_await time(w, 1s, 4s);
    ask_for_switchover(w, *leader_or_some(w), fmt::format(R"(,"member":"{}")", to->name));
    for (int i = 0; i != 4000 && !to->is_leader(); ++i)
        co_await pause(w.clock, 5ms);
    to->rest_becomes(node::rest::fine);
    co_await time(w, 2s, 5s);
}

// Between a command and its answer: the new process knows nothing of it.
routine<> reload_in_a_pass(world& w) {
    w.reloads_in_a_pass = 1 + static_cast<int>(w.chance.below(2));
    ask_for_switchover(w, *leader_or_some(w), "");
    co_await time(w, 5s, 12s);
    w.reloads_in_a_pass = 0;
}

routine<> addresses_are_ignored(world& w) {
    const without haproxy_part(w, part::haproxy);
    w.proxy.ignores_addresses = true;
    const bool restarts = w.chance.percent(50);
    if (restarts) {
        w.judge.new_process();
        w.proxy.state_file.clear();
        w.proxy.reload();
    }
    co_await member_moves(w);
    w.proxy.ignores_addresses = false;
}

} // namespace

const std::vector<fault>& all_faults() {
    static const std::vector<fault> faults{
        {"leader crashes", leader_crashes},
        {"leader crashes", leader_crashes}, // what it is all for, twice as often
        {"leader restarts at once", leader_restarts_at_once},
        {"replica crashes", replica_crashes},
        {"everybody crashes", everybody_crashes},
        {"Patroni dies, PostgreSQL goes on", patroni_dies},
        {"PostgreSQL crashes", postgres_crashes},
        {"node freezes", node_freezes},
        {"REST API is strange", rest_is_strange},
        {"leader's REST API hangs", leader_rest_hangs},
        {"replica says master", replica_lies},
        {"switchover", switchover},
        {"switchover", switchover},
        {"switchovers in a row", switchovers},
        {"switchover in vain", switchover_in_vain},
        {"node cut off from etcd", node_cut_off_from_etcd},
        {"member joins", member_joins},
        {"member joins", member_joins},
        {"member leaves", member_leaves},
        {"member leaves", member_leaves},
        {"member moves", member_moves},
        {"two members swap addresses", members_swap},
        {"etcd away", etcd_away},
        {"etcd hangs", etcd_hangs},
        {"etcd endpoint away", endpoint_away},
        {"etcd endpoint hangs", endpoint_hangs},
        {"etcd endpoint behind", endpoint_behind},
        {"etcd endpoint of another etcd", endpoint_is_foreign},
        {"agent cut off from etcd", agent_cut_off_from_etcd},
        {"watch breaks", watch_breaks},
        {"watch falls silent", watch_falls_silent},
        {"etcd is slow", etcd_is_slow},
        {"keys deleted", keys_deleted},
        {"members' keys deleted", members_deleted},
        {"etcd wiped", etcd_wiped},
        {"etcd restored", etcd_restored},
        {"garbage in etcd", garbage_in_etcd},
        {"HAProxy reloads", reload},
        {"HAProxy reloads in a row", reloads},
        {"HAProxy reloads in a switchover", reload_in_switchover},
        {"HAProxy restarts", haproxy_restarts},
        {"HAProxy restarts", haproxy_restarts},
        {"socket refused", socket_refused},
        {"socket hangs", socket_hangs},
        {"answers are cut", answers_are_cut},
        {"commands fail", commands_fail},
        {"socket is slow", socket_is_slow},
        {"state file is not written", state_file_is_not_written},
        {"slots changed by hand", slots_by_hand},
        {"agent killed", agent_killed},
        {"agent killed in a switchover", agent_killed_in_switchover},
        {"agent frozen", agent_frozen},
        {"wall clock jumps", wall_clock_jumps},
        {"agent cut off from a node", agent_cut_off_from_a_node},
        {"agent cut off from all nodes", agent_cut_off_from_all_nodes},
        {"nodes are slow", nodes_are_slow},
        {"leader's REST API hangs after a switchover", rest_hangs_after_switchover},
        {"leader is unknown, and etcd away", leader_is_unknown},
        {"switchover without etcd", switchover_without_etcd},
        {"stale leader comes back", stale_leader_comes_back},
        {"second slot by hand, all say yes", second_slot_by_hand},
        {"leader said yes before its term", liar_becomes_leader},
        {"HAProxy reloads in a pass", reload_in_a_pass},
        {"HAProxy ignores addresses", addresses_are_ignored},
    };
    return faults;
}

} // namespace pointsman::sim
