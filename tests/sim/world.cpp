#include "world.hpp"

#include "faults.hpp"

#include <algorithm>

namespace pointsman::sim {

using namespace std::chrono_literals;
using runtime_api::command;

namespace {

constexpr std::size_t lines_kept = 40;
// A pass takes three stages of each of two pools, and 50 looks at an address that comes late.
constexpr int longest_pass = 400;
// A cluster that was healed is whole after a lease, an election and the trial of a new store.
constexpr auto settles = 180s;

config::cluster_settings settings_of(random& chance) {
    config::cluster_settings settings;
    settings.scope = "demo";
    settings.pools.resize(2);
    settings.pools[0].backend = "primary";
    settings.pools[0].role = config::pool_role::primary;
    settings.pools[0].check = "/master";
    settings.pools[1].backend = "replicas";
    settings.pools[1].role = config::pool_role::replica;
    settings.pools[1].check = "/replica";
    settings.pools[1].fallback_primary = chance.percent(50);
    if (chance.percent(30))
        settings.pools[1].weight = config::weight_settings{100, config::lag_settings{1 << 20, 1 << 26}};
    return settings;
}

proxy_shape shape_of(random& chance) {
    proxy_shape shape;
    shape.async_address = chance.percent(50);
    shape.literal = chance.percent(20);
    shape.cuts_on_maint = chance.percent(80);
    shape.slots = 3 + chance.below(5);
    shape.backends = {"primary", "replicas"};
    return shape;
}

} // namespace

world::world(std::uint64_t seed, bool is_traced)
    : traced(is_traced), chance(seed), settings(settings_of(chance)),
      store(clock, chance, chance.percent(50) ? 1 : 3), cluster{.clock = clock,
                                                                .chance = chance,
                                                                .store = store,
                                                                .prefix = config::key_prefix(settings)},
      proxy(clock, chance, shape_of(chance)), judge(*this), people_(clock) {
    cluster.ttl = chance.percent(50) ? 30s : 20s;
    cluster.failsafe = chance.percent(50);
    cluster.steals_lock = chance.percent(50);
    cluster.restarts_as_primary = chance.percent(50);
    cluster.postgres_stops = [this](int host) { proxy.end_sessions_at(fmt::format("10.0.0.{}", host)); };
    store.changed = [this](const std::string& key) {
        const std::string name = key.starts_with(cluster.prefix) ? key.substr(cluster.prefix.size()) : key;
        judge.key_changed(name);
        tell("etcd",
             [&] { return name + " = " + etcd_http::printable(store.get(cluster.key(name)).value_or("(gone)")); });
        if (name == "leader" || name == "failover") { // Patroni watches them
            for (const auto& n : cluster.nodes)
                n->notice();
        }
    };
    proxy.on_ready = [this](const proxy_slot& s) { judge.given(s); };
    proxy.on_taken = [this](const proxy_slot& s) { judge.taken(s); };
    proxy.on_address = [this](const proxy_slot& s) { judge.readdressed(s); };
    proxy.on_cut = [this](const proxy_slot& s, const proxy_session& session, by whom, bool) {
        judge.cut(s, session, whom);
    };
    const std::size_t members = 2 + chance.below(3);
    for (std::size_t i = 0; i != members; ++i)
        add_node();
    start_agent();
    people_.spawn(clients("primary", 400ms));
    people_.spawn(clients("replicas", 400ms));
    people_.spawn(own_checks());
    people_.spawn(turns());
}

world::~world() {
    people_.clear();
    running.reset();
}

void world::run(std::chrono::minutes time) {
    const time_point end = clock.now() + time;
    time_point next_tick = clock.now();
    std::uint64_t before = 0;
    while (clock.now() < end && !judge.broken()) {
        clock.step();
        judge.after_event();
        if (clock.now() >= next_tick) {
            next_tick = clock.now() + 100ms;
            proxy.end_finished();
            judge.tick();
            if (clock.happened() - before > 20000)
                judge.fail("the agent rests", "20000 events in a tenth of a second");
            before = clock.happened();
        }
    }
}

// --- what the agent meets

std::string world::answer(const std::string& question, const std::vector<command>& batch) {
    const bool old = proxy.next_is_old();
    if (question == "show info")
        return proxy.info(old);
    if (question == "show servers state")
        return proxy.observe(old);
    if (question == "show stat")
        return proxy.statistics();
    if (old)
        return "Proxy is disabled.\n\n";
    tell("haproxy", [&batch] {
        std::string text;
        for (const auto& c : batch)
            text += (text.empty() ? "" : "; ") + render(c);
        return text;
    });
    for (const auto& c : batch) {
        for (const char letter : render(c))
            digest = (digest ^ static_cast<unsigned char>(letter)) * 1099511628211ULL;
    }
    digest = (digest ^ static_cast<std::uint64_t>(clock.now().time_since_epoch().count())) * 1099511628211ULL;
    if (socket == socket_state::failing && chance.percent(60))
        return proxy.carry_out(batch, by::agent, chance.below(batch.size()));
    std::string reply = proxy.carry_out(batch, by::agent);
    const auto* state = std::get_if<runtime_api::set_state>(&batch.front());
    if (reloads_in_a_pass > 0 && state && state->state == runtime_api::admin_state::maint) {
        --reloads_in_a_pass;
        judge.new_process();
        proxy.reload();
    }
    return reply;
}

runtime_api::process_info world::process() {
    return proxy.identify(proxy.next_is_old());
}

node::rest_answer world::ask_node(int host, const std::string& path) const {
    const node* n = cluster.at(host);
    return !n || cut_off.contains(host) ? node::rest_answer() : n->ask(path);
}

std::optional<bool> world::ask_port(int host) const {
    const node* n = cluster.at(host);
    return !n || cut_off.contains(host) ? std::nullopt : n->port_open();
}

duration world::rest_delay(int host) const {
    const node* n = cluster.at(host);
    return n && slow_rest > 0ms ? slow_rest : duration{};
}

void world::pass_begins() {
    ++counts.passes;
    steps_ = 0;
}

void world::pass_goes_on() {
    if (++steps_ > longest_pass)
        judge.fail("a pass ends", fmt::format("{} steps", steps_));
}

// --- the trace

void world::add_line(const char* who, const std::string& text) {
    const auto since = clock.now().time_since_epoch() - std::chrono::hours(1000);
    lines.push_back(fmt::format("{:10.4f} {:8} {}", std::chrono::duration<double>(since).count(), who, text));
    if (lines.size() > lines_kept)
        lines.pop_front();
    if (on_line)
        on_line(lines.back());
}

void world::log_notes(const agent::notes& notes) {
    for (const auto& n : notes)
        tell("agent", [&n] { return n.text; });
}

// --- its parts

void world::start_agent() {
    judge.agent_started();
    running = std::make_unique<shell>(*this);
}

void world::set_socket(socket_state to) {
    socket = to;
    if (to == socket_state::hung || to == socket_state::refused)
        return;
    for (const auto& batch : std::exchange(late, {})) {
        judge.replaced();
        proxy.carry_out(batch, by::process);
    }
}

void world::add_node() {
    const auto number = static_cast<int>(cluster.nodes.size()) + 1;
    cluster.nodes.push_back(std::make_unique<node>(cluster, fmt::format("n{}", number), number));
    cluster.nodes.back()->start();
}

node* world::leader() const {
    const auto name = cluster.leader();
    node* n = name ? cluster.find(*name) : nullptr;
    return n && n->present ? n : nullptr;
}

std::vector<node*> world::present() const {
    std::vector<node*> found;
    for (const auto& n : cluster.nodes) {
        if (n->present)
            found.push_back(n.get());
    }
    return found;
}

std::vector<node*> world::replicas() const {
    auto found = present();
    std::erase(found, leader());
    return found;
}

void world::heal() {
    for (node* n : present()) {
        n->cut_off_from_etcd = false;
        n->rest_becomes(node::rest::fine);
        if (n->frozen)
            n->thaw();
        n->start();
    }
    for (std::size_t i = 0; i != store.endpoints(); ++i) {
        if (store.state_of(i) != etcd::health::fine)
            store.set(i, etcd::health::fine);
    }
    if (const auto asked = store.get(cluster.key("failover")); asked && asked != "{}")
        store.put(cluster.key("failover"), "{}");
    disk_full = false;
    reloads_in_a_pass = 0;
    proxy.ignores_addresses = false;
    if (!running)
        start_agent();
}

// --- lives of their own

routine<> world::clients(std::string backend, std::chrono::milliseconds longest_pause) {
    for (;;) {
        const auto next = chance.between(20ms, longest_pause);
        co_await pause(clock, next);
        const auto usable = proxy.usable(backend);
        if (usable.empty() || proxy.down)
            continue;
        const std::size_t slot = usable[chance.below(usable.size())];
        const node* n = cluster.at(host_of(proxy.now().slots[slot].where.ip()));
        if (!n || !n->takes_sessions())
            continue;
        const auto lives = chance.percent(80) ? chance.between(20ms, 2000ms) : chance.between(2000ms, 60000ms);
        proxy.open(slot, lives);
        ++counts.sessions;
    }
}

// HAProxy's own checks of its slots, every two seconds; what is silent has failed after two more, whatever has been
// told to the check meanwhile.
routine<> world::own_checks() {
    for (;;) {
        co_await pause(clock, 2s);
        if (proxy.down)
            continue;
        for (std::size_t i = 0; i != proxy.now().slots.size(); ++i) {
            const proxy_slot& s = proxy.now().slots[i];
            if (s.maint || !s.checked)
                continue;
            const auto answer = ask_check(s);
            if (answer.status || answer.refused)
                proxy.checked(i, proxy.now().pid, answer.status == 200);
            else
                clock.in(2s, [this, i, pid = proxy.now().pid] { proxy.checked(i, pid, false); });
        }
    }
}

node::rest_answer world::ask_check(const proxy_slot& s) const {
    const node* n = cluster.at(host_of(s.where.ip()));
    return n ? n->ask(s.id.backend() == "primary" ? "/master" : "/replica") : node::rest_answer();
}

// A fault, or two that overlap; then all is healed, and mostly waited for until all is whole.
routine<> world::turns() {
    const auto& kinds = all_faults();
    for (;;) {
        const auto healed = clock.now();
        const bool waits = chance.percent(80);
        while (waits && !judge.whole()) {
            co_await pause(clock, 200ms);
            if (clock.now() - healed > settles) {
                judge.fail("THE SIMULATION ITSELF", "the cluster does not become whole");
                break;
            }
        }
        const auto quiet = chance.percent(15) ? chance.between(20s, 45s) : chance.between(200ms, 5000ms);
        co_await pause(clock, quiet);
        crew under_way(clock);
        const std::size_t together = chance.percent(40) ? 2 + chance.below(2) : 1;
        for (std::size_t i = 0; i != together; ++i) {
            const fault& f = chance.pick(kinds);
            ++counts.faults[f.name];
            judge.disturbed();
            tell("FAULT", [&f] { return f.name; });
            under_way.spawn(f.run(*this));
            if (i + 1 != together) {
                const auto between = chance.between(0ms, 4000ms);
                co_await pause(clock, between);
            }
        }
        while (!under_way.idle())
            co_await pause(clock, 50ms);
        heal();
        judge.disturbed();
        tell("FAULT", [] { return "over"; });
    }
}

std::string world::ip_of(const node& n) const {
    return fmt::format("10.0.0.{}", n.host);
}

int world::host_of(const std::string& ip) const {
    return ip.starts_with("10.0.0.") ? std::atoi(ip.c_str() + 7) : 0;
}

} // namespace pointsman::sim
