#include "shell.hpp"

#include "world.hpp"

#include "agent/left_behind.hpp"

#include <charconv>

namespace pointsman::sim {

using namespace std::chrono_literals;
using agent::todo;
using runtime_api::errc;
using runtime_api::failure;

namespace {

// As in the shells (cluster_watch.cpp, reconciler.cpp, old_workers.cpp, gateway.hpp, exchange.hpp).
constexpr auto housekeeping_interval = 1s;
constexpr auto not_probeable_wait = 1s;
constexpr auto heartbeat = 50ms;
constexpr auto sweep_interval = 1s;
constexpr auto read_deadline = 3s;
constexpr auto exchange_deadline = 2s;

constexpr auto never = time_point::max();

std::optional<int> host_number(const std::string& ip) {
    constexpr std::string_view network = "10.0.0.";
    int number = 0;
    if (!ip.starts_with(network))
        return std::nullopt;
    const auto [end, error] = std::from_chars(ip.data() + network.size(), ip.data() + ip.size(), number);
    return error == std::errc() ? std::optional(number) : std::nullopt;
}

} // namespace

shell::shell(world& w)
    : w_(w), clock_(w.clock), checks_(agent::checks_of(w.settings)), cache_(w.store.endpoints()),
      watch_ends_(clock_, &frozen_until_), reason_(clock_, &frozen_until_), rules_changed_(clock_, &frozen_until_),
      tasks_(clock_) {
    passes_.emplace(std::vector{agent::followed_cluster{w.settings, cluster_, w.poll_interval}}, "/haproxy.sock");
    tasks_.spawn(follow());
    tasks_.spawn(housekeeping());
    tasks_.spawn(reconcile());
    tasks_.spawn(sweep_old_workers());
}

shell::~shell() {
    tasks_.clear();
}

void shell::freeze(duration time) {
    frozen_until_ = clock_.now() + time;
}

// --- gateway

routine<> shell::follow() {
    std::size_t turn = 0;
    std::size_t failures = 0;
    for (;;) {
        const std::size_t endpoint = turn % w_.store.endpoints();
        auto read = co_await refresh(endpoint);
        if (read) {
            failures = 0;
            co_await session(endpoint);
        }
        ++failures;
        ++turn;
        if (failures >= w_.store.endpoints()) {
            const auto back_off = w_.chance.between(50ms, failures > 4 ? 2000ms : 200ms);
            co_await pause(clock_, back_off, &frozen_until_);
        }
    }
}

// A full read; false: a reason to go to the next endpoint.
routine<bool> shell::refresh(std::size_t endpoint) {
    const std::int64_t asked_at = cache_.snapshot().revision;
    const auto there = w_.chance.between(200us, 2000us) + w_.store.slowness;
    co_await pause(clock_, there, &frozen_until_);
    const auto state = w_.store.state_of(endpoint);
    if (state == etcd::health::away || state == etcd::health::hung || !w_.store.answers ||
        (state == etcd::health::fine && !w_.store.available())) {
        if (state != etcd::health::away || !w_.store.answers)
            co_await pause(clock_, read_deadline, &frozen_until_);
        cache_.unanswered();
        co_return false;
    }
    auto reply = w_.store.range(endpoint);
    const auto back = w_.chance.between(200us, 2000us) + w_.store.slowness;
    co_await pause(clock_, back, &frozen_until_);
    const auto what = cache_.apply(std::move(reply), asked_at, clock_.now());
    if (what == etcd_http::verdict::stale || what == etcd_http::verdict::gone_back)
        co_return false;
    if (what == etcd_http::verdict::changed) {
        watch_owes_ = true;
        take_keys();
    }
    cluster_.confirmed = clock_.now();
    co_return true;
}

routine<> shell::session(std::size_t endpoint) {
    watch_owes_ = false;
    watch_ends_.rung = false;
    watch_ = w_.store.follow(endpoint, cache_.snapshot().revision + 1,
                             [this](const etcd_http::watch_message& message) { take_message(message); });
    for (;;) {
        const auto next_poll = clock_.now() + w_.poll_interval;
        while (!watch_->ended && clock_.now() < next_poll) {
            // Of a connection that is closed the agent hears at once, of a silent one by its poll.
            const auto soon = std::min(next_poll, clock_.now() + 250ms);
            co_await watch_ends_.until(soon);
            watch_ends_.rung = false;
        }
        if (watch_->ended || watch_owes_)
            break;
        auto read = co_await refresh(endpoint);
        if (!read)
            break;
    }
    watch_.reset();
}

void shell::take_message(const etcd_http::watch_message& message) {
    if (frozen()) { // it waits in the socket
        const std::weak_ptr<etcd::watch> open = watch_;
        clock_.at(frozen_until_, [open, message] {
            if (const auto w = open.lock())
                w->on_message(message);
        });
        return;
    }
    const auto what = cache_.apply(message);
    if (what == etcd_http::verdict::stale || what == etcd_http::verdict::gone_back) {
        watch_->ended = true;
        watch_ends_.ring();
        return;
    }
    watch_owes_ = false;
    if (what == etcd_http::verdict::changed)
        take_keys();
}

// --- cluster_watch

void shell::take_keys() {
    const auto& snapshot = cache_.snapshot();
    const auto view = etcd_http::parse_cluster(snapshot.keys, config::key_prefix(w_.settings), snapshot.revision);
    const bool first = !cluster_.known;
    if (std::exchange(store_, snapshot.store) != snapshot.store)
        store_since_ = clock_.now();
    const auto change = agent::take_view(cluster_, view, clock_.now(), w_.wall());
    if (first)
        cluster_.confirmed = clock_.now();
    refresh_addresses();
    start_probers();
    if (change.leader) {
        w_.tell("agent", [this] {
            return "the leader key names " + (cluster_.leader ? cluster_.leader->name : std::string("nobody"));
        });
        for (auto& [key, loop] : probers_)
            loop->ring();
    } else {
        for (const std::string& name : change.probe)
            wake_probers(name);
    }
    wake();
}

routine<> shell::housekeeping() {
    for (;;) {
        co_await pause(clock_, housekeeping_interval, &frozen_until_);
        refresh_addresses();
        for (const std::string& name : agent::forget_absent(cluster_, clock_.now())) {
            w_.tell("agent", [&name] { return name + " is forgotten"; });
            wake_probers(name);
            wake();
        }
    }
}

void shell::refresh_addresses() {
    for (auto& [name, m] : cluster_.members) {
        auto connect = m.record.connect ? runtime_api::address::parse(m.record.connect->host, m.record.connect->port)
                                        : std::nullopt;
        if (connect == m.connect)
            continue;
        agent::set_addresses(m, std::move(connect), std::nullopt);
        wake_probers(name);
        wake();
    }
}

void shell::start_probers() {
    std::set<std::string> paths;
    for (const agent::check& c : checks_)
        paths.insert(c.path);
    for (const auto& [name, m] : cluster_.members) {
        for (const std::string& path : paths) {
            const auto [it, is_new] = probers_.try_emplace({name, path});
            if (!is_new)
                continue;
            it->second = std::make_unique<alarm>(clock_, &frozen_until_);
            tasks_.spawn(probe_loop(name, path));
        }
    }
}

void shell::wake_probers(const std::string& member) {
    for (auto& [key, loop] : probers_) {
        if (key.first == member)
            loop->ring();
    }
}

std::optional<int> shell::host_of(const std::string& member) const {
    const auto it = cluster_.members.find(member);
    if (it == cluster_.members.end() || !it->second.record.rest)
        return std::nullopt;
    return host_number(it->second.record.rest->where.host);
}

std::optional<int> shell::port_of(const std::string& member) const {
    const auto& where = cluster_.members.at(member).connect;
    return where ? host_number(where->ip()) : std::nullopt;
}

routine<> shell::probe_loop(std::string member, std::string path) {
    const auto key = std::pair(member, path);
    while (cluster_.members.contains(member)) {
        alarm& self = *probers_.at(key);
        self.rung = false;
        duration delay = not_probeable_wait;
        if (const auto host = host_of(member)) {
            const auto port = port_of(member);
            const auto result = co_await probe(*host, port, path);
            if (host_of(member) == host && port_of(member) == port) {
                w_.judge.node_said(*host, path, result);
                const auto change = agent::take_outcome(cluster_, checks_, member, path, result);
                if (!change.turned.empty()) {
                    w_.tell("agent", [this, &member, &path, &change] {
                        return fmt::format("{} {}: {}", member, path,
                                           describe(cluster_.members.at(member).probes.at(change.turned.front())));
                    });
                }
                if (change.decides)
                    wake();
            }
            const auto exact = next_delay(member, path);
            delay = exact + (exact * static_cast<int>(w_.chance.below(21)) - exact * 10) / 100;
        }
        if (self.rung)
            continue;
        const auto next = clock_.now() + delay;
        co_await self.until(next);
    }
    probers_.erase(key);
}

// REST API and port, each with the timeout.
routine<agent::outcome> shell::probe(int host, std::optional<int> port_host, std::string path) {
    agent::outcome result;
    result.sent = clock_.now();
    const auto there = w_.chance.between(200us, 3000us);
    co_await pause(clock_, there, &frozen_until_);
    const auto answer = w_.ask_node(host, path);
    if (answer.status) {
        const auto back = w_.chance.between(200us, 3000us) + w_.rest_delay(host);
        co_await pause(clock_, back, &frozen_until_);
        result.status = answer.status;
        result.body = agent::parse_rest_body(answer.body);
    } else {
        result.detail = "no answer";
        if (!answer.refused)
            co_await pause(clock_, w_.settings.probe.timeout, &frozen_until_);
    }
    if (!agent::is_answer(result) && port_host) {
        result.postgres_open = w_.ask_port(*port_host);
        const duration waits = result.postgres_open ? duration(500us) : duration(w_.settings.probe.timeout);
        co_await pause(clock_, waits, &frozen_until_);
    }
    result.received = clock_.now();
    ++w_.counts.probes;
    co_return result;
}

duration shell::next_delay(const std::string& member, const std::string& path) {
    auto delay = w_.settings.probe.interval;
    for (const agent::check& c : checks_) {
        if (c.path == path)
            delay = std::min(delay, probe_delay(cluster_, member, c, w_.settings.probe.interval, clock_.now()));
    }
    return delay;
}

// --- reconciler

routine<> shell::reconcile() {
    for (;;) {
        reason_.rung = false;
        w_.pass_begins();
        todo what = passes_->begin();
        while (!std::holds_alternative<agent::rest>(what)) {
            w_.pass_goes_on();
            todo next = co_await carry_out(what);
            what = std::move(next);
            w_.log_notes(passes_->take_notes());
        }
        static_cast<void>(passes_->take_failovers());
        if (auto text = passes_->state_file())
            keep(std::move(*text));
        auto rules = passes_->rules_of_sessions();
        if (rules != rules_) {
            rules_ = std::move(rules);
            rules_changed_.ring();
        }
        co_await wait_for_reason();
    }
}

routine<todo> shell::carry_out(todo what) {
    if (const auto* commands = std::get_if<agent::send>(&what)) {
        const time_point begin = clock_.now();
        const auto reply = co_await ask_haproxy("commands", commands->batch);
        if (!reply)
            co_return passes_->answered(reply.error(), begin, clock_.now());
        co_return passes_->answered(check_reply(commands->batch, *reply), begin, clock_.now());
    }
    const std::vector<runtime_api::command> none;
    if (std::holds_alternative<agent::count_sessions>(what)) {
        const auto reply = co_await ask_haproxy("show stat", none);
        if (!reply)
            co_return passes_->counted(reply.error(), clock_.now());
        co_return passes_->counted(runtime_api::parse_stat(*reply), clock_.now());
    }
    const auto after = std::get<agent::look>(what).after;
    if (after > 0ms)
        co_await pause(clock_, after, &frozen_until_);
    const auto reply = co_await ask_haproxy("show servers state", none);
    if (!reply)
        co_return passes_->seen(reply.error(), clock_.now());
    co_return passes_->seen(runtime_api::parse_observation(*reply), clock_.now());
}

// One exchange. A line that HAProxy has read is carried out whether or not anybody waits for the answer.
routine<runtime_api::result<std::string>> shell::ask_haproxy(std::string what,
                                                             std::vector<runtime_api::command> batch) {
    using result = runtime_api::result<std::string>;
    const auto there = w_.chance.between(20us, 400us) + w_.socket_delay;
    if (w_.chance.percent(80)) // else the line is with HAProxy before anything else happens
        co_await pause(clock_, there, &frozen_until_);
    if (w_.socket == world::socket_state::refused)
        co_return result(failure{errc::unreachable, "haproxy: connection refused"});
    if (w_.socket == world::socket_state::hung) {
        if (!batch.empty())
            w_.late.push_back(batch); // it is read when HAProxy goes on
        co_await pause(clock_, exchange_deadline, &frozen_until_);
        co_return result(failure{errc::timeout, "haproxy: no answer in time"});
    }
    std::string reply = w_.answer(what, batch);
    const auto back = w_.chance.between(20us, 400us) + w_.socket_delay;
    co_await pause(clock_, back, &frozen_until_);
    if (w_.socket == world::socket_state::cut && w_.chance.percent(50)) {
        if (w_.chance.percent(50))
            co_return result(failure{errc::unreachable, "haproxy: connection reset"});
        reply.resize(w_.chance.below(reply.size() + 1));
        if (w_.chance.percent(50)) // at a line's end, where it looks whole
            reply.resize(reply.rfind('\n') == reply.npos ? 0 : reply.rfind('\n') + 1);
    }
    co_return result(std::move(reply));
}

routine<> shell::wait_for_reason() {
    const time_point until = passes_->next(clock_.now());
    while (!reason_.rung && clock_.now() < until) {
        const auto beat = std::min(until, clock_.now() + heartbeat);
        co_await reason_.until(beat);
        if (reason_.rung)
            co_return;
        if (w_.socket == world::socket_state::fine && w_.socket_delay == 0ms) { // nothing can go wrong: no text
            if (passes_->is_news(w_.process()))
                co_return;
            continue;
        }
        const std::vector<runtime_api::command> none;
        const auto reply = co_await ask_haproxy("show info", none);
        const bool news = reply ? passes_->is_news(runtime_api::parse_info(*reply)) : passes_->is_news(reply.error());
        if (news)
            co_return;
    }
}

void shell::keep(std::string text) {
    const auto writes = w_.chance.between(500us, 20000us);
    const auto number = ++w_.counts.files;
    clock_.in(writes, [&w = w_, kept = std::move(text), number] {
        if (!w.disk_full && number > w.file_written) { // of several the last one counts
            w.file_written = number;
            w.proxy.state_file = kept;
        }
    });
}

// --- old_workers

routine<> shell::sweep_old_workers() {
    for (;;) {
        rules_changed_.rung = false;
        if (agent::any_end(rules_) && w_.socket == world::socket_state::fine) {
            const auto there = w_.chance.between(50us, 2000us);
            co_await pause(clock_, there, &frozen_until_);
            for (const auto& worker : w_.proxy.old_workers())
                w_.proxy.cut(worker.pid, agent::to_end(rules_, worker));
        }
        if (rules_changed_.rung)
            continue;
        const auto next = clock_.now() + sweep_interval;
        co_await rules_changed_.until(next);
    }
}

} // namespace pointsman::sim
