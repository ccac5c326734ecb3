#include "agent/cluster_watch.hpp"

#include "agent/alarm.hpp"
#include "agent/journal.hpp"
#include "agent/log.hpp"
#include "agent/metrics.hpp"

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <random>

namespace pointsman::agent {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using etcd_http::printable;

namespace {

constexpr auto housekeeping_interval = 1s;
constexpr auto name_lives = 30s;        // how long a resolved name is used before it is looked up again
constexpr auto name_retry = 5s;         // and one that did not resolve
constexpr auto not_probeable_wait = 1s; // between looks at a member without a usable REST address

time_point now() {
    return std::chrono::steady_clock::now();
}

// Probes of several agents and members must not fall into step (facts 2.1: five workers).
std::chrono::milliseconds jittered(std::chrono::milliseconds delay) {
    static std::minstd_rand random{std::random_device{}()};
    std::uniform_int_distribution<std::chrono::milliseconds::rep> tenth(-delay.count() / 10, delay.count() / 10);
    return delay + std::chrono::milliseconds(tenth(random));
}

bool same_place(const probe_target& a, const probe_target& b) {
    return a.request.ip == b.request.ip && a.request.port == b.request.port && a.postgres == b.postgres;
}

} // namespace

cluster_watch::cluster_watch(const asio::any_io_executor& executor, const config::cluster_settings& settings,
                             etcd_http::gateway_settings etcd, etcd_http::tls_context probe_tls, journal& told,
                             metrics& counted, std::function<void()> changed)
    : executor_(executor), settings_(settings), prefix_(config::key_prefix(settings)),
      poll_interval_(etcd.poll_interval), gateway_(std::move(etcd)), probe_tls_(std::move(probe_tls)), journal_(told),
      metrics_(counted), changed_(std::move(changed)), checks_(checks_of(settings)), tasks_(executor) {}

cluster_watch::~cluster_watch() = default;

void cluster_watch::begin_with(cluster known) {
    cluster_ = std::move(known);
    cluster_.watched = false;
    for (auto& [name, m] : cluster_.members)
        std::erase_if(m.probes, [this](const auto& probe) { return !checks_.contains(probe.first); });
}

asio::awaitable<void> cluster_watch::run() {
    const etcd_http::follower follower{
        .changed = [this](const etcd_http::key_snapshot& snapshot) { take_keys(snapshot); },
        .confirmed = [this] { etcd_confirmed(); },
        .failed = [this](const etcd_http::failure& why) { etcd_failed(why); },
        .watching = [this](bool is) { cluster_.watched = is; },
    };
    tasks_.spawn(gateway_.follow(prefix_, follower));
    tasks_.spawn(housekeeping());
    start_probers();
    co_await tasks_.wait();
}

// --- etcd

void cluster_watch::take_keys(const etcd_http::key_snapshot& snapshot) {
    const auto view = etcd_http::parse_cluster(snapshot.keys, prefix_, snapshot.revision);
    const bool first = store_ == 0;
    if (!first && snapshot.store != store_)
        tell(severity::warning, "etcd",
             fmt::format("another store of etcd is followed from now on: revision {} of cluster {}", snapshot.revision,
                         snapshot.cluster_id));
    store_ = snapshot.store;
    const auto members_before = cluster_.members.size();
    const view_change change = take_view(cluster_, view, now(), std::chrono::system_clock::now());
    if (first) {
        cluster_.confirmed = now();
        tell(severity::info, "etcd",
             fmt::format("read from etcd: {} members, leader {}", cluster_.members.size(),
                         cluster_.leader ? printable(cluster_.leader->name) : "none"));
        if (cluster_.members.empty())
            tell(severity::warning, "etcd",
                 fmt::format("no members under {}: every slot stays as it is until there are some", prefix_));
    } else {
        if (change.leader)
            report_leader();
        if (cluster_.members.size() > members_before)
            tell(severity::info, "etcd", fmt::format("{} members now", cluster_.members.size()));
    }
    report_refusals(view.refusals);
    refresh_addresses();
    start_probers();
    if (change.leader) {
        for (auto& [key, loop] : probers_)
            loop->ring();
    } else {
        for (const std::string& name : change.probe)
            wake_probers(name);
    }
    changed_();
}

void cluster_watch::report_leader() {
    if (cluster_.leader)
        tell(severity::info, "leader",
             fmt::format("the leader key names {} (term {})", printable(cluster_.leader->name), cluster_.leader->term));
    else
        tell(severity::warning, "leader",
             fmt::format("the leader key is gone; {} keeps its slot while its node says yes",
                         cluster_.last_leader ? printable(*cluster_.last_leader) : "nobody"));
}

void cluster_watch::tell(severity how, std::string kind, std::string text, std::string member) {
    const std::string of_member = member.empty() ? "" : "member " + member + ": ";
    log({{how, fmt::format("cluster {}: {}{}", settings_.scope, of_member, text)}});
    journal_.add({.how = how,
                  .kind = std::move(kind),
                  .scope = settings_.scope,
                  .member = std::move(member),
                  .text = std::move(text)});
}

void cluster_watch::etcd_confirmed() {
    cluster_.confirmed = now();
    if (const auto lasted = etcd_trouble_.over(now()))
        tell(severity::info, "etcd", "etcd answers again, " + *lasted);
    etcd_gone_back_ = false;
}

void cluster_watch::etcd_failed(const etcd_http::failure& why) {
    const auto told = etcd_trouble_.seen(printable(why.detail, 300), now());
    // A store that was wiped or restored comes after an etcd that was away: that is worth a line whatever was told
    // before.
    const bool gone_back = why.kind == etcd_http::errc::gone_back;
    if (gone_back && !etcd_gone_back_) {
        tell(severity::error, "etcd",
             fmt::format("{}: etcd was wiped, restored or replaced; members and slots stay as they are, and the new "
                         "store is followed when nothing else has answered for {} s",
                         etcd_trouble_.text(), etcd_http::key_cache::trial.count()));
    } else if (told) {
        const std::string text =
            told->text + "; members and slots stay as they are, roles are followed by probes, trying on";
        if (told->news)
            tell(severity::warning, "etcd", text);
        else
            log({{severity::warning, fmt::format("cluster {}: {}", settings_.scope, text)}});
    }
    etcd_gone_back_ = etcd_gone_back_ || gone_back;
}

void cluster_watch::report_refusals(const std::vector<etcd_http::refusal>& refusals) {
    std::map<std::string, std::string> reasons;
    for (const auto& refusal : refusals) {
        std::string& text = reasons[refusal.member];
        text += (text.empty() ? "" : "; ") + refusal.reason;
    }
    for (const auto& [name, m] : cluster_.members) {
        if (m.present && (!m.record.connect || !m.record.rest))
            reasons.try_emplace(printable(name), m.record.rest ? "no conn_url: it gets no slot"
                                                               : "no api_url: it cannot be probed and is not served");
    }
    for (const auto& [name, reason] : reasons) {
        const auto it = refused_.find(name);
        if (it == refused_.end() || it->second != reason)
            tell(severity::warning, "member", fmt::format("refused: {}; the other members are served", reason), name);
    }
    for (const auto& [name, reason] : refused_) {
        if (!reasons.contains(name))
            tell(severity::info, "member", "in order again", name);
    }
    refused_ = std::move(reasons);
}

asio::awaitable<void> cluster_watch::housekeeping() {
    asio::steady_timer timer(executor_);
    for (;;) {
        timer.expires_after(housekeeping_interval);
        co_await timer.async_wait(asio::use_awaitable);
        refresh_addresses();
        for (const std::string& name : forget_absent(cluster_, now())) {
            tell(severity::info, "member", "gone from etcd and from its node; its slot is free", printable(name));
            wake_probers(name); // so that its loops see that it is gone
            changed_();
        }
    }
}

// --- names

void cluster_watch::refresh_addresses() {
    for (auto& [name, m] : cluster_.members) {
        auto connect = address_of(name, m.record.connect, m.connect);
        auto proxy = address_of(name, m.record.proxy, m.proxy);
        if (connect == m.connect && proxy == m.proxy)
            continue;
        if (m.connect)
            tell(severity::info, "member",
                 fmt::format("moved from {} to {}", to_string(*m.connect), connect ? to_string(*connect) : "nowhere"),
                 printable(name));
        set_addresses(m, std::move(connect), std::move(proxy));
        wake_probers(name);
        changed_();
    }
}

std::optional<runtime_api::address> cluster_watch::address_of(const std::string& member,
                                                              const std::optional<etcd_http::host_port>& where,
                                                              const std::optional<runtime_api::address>& current) {
    if (!where)
        return std::nullopt;
    if (auto literal = runtime_api::address::parse(where->host, where->port))
        return literal;
    const resolved_name* name = look_up(where->host);
    if (!name || name->addresses.empty())
        return current; // R5: a name that stops resolving keeps its last address
    if (current && current->port() == where->port && std::ranges::count(name->addresses, current->ip()) != 0)
        return current; // of several addresses the one in use stays
    for (const std::string& ip : name->addresses) {
        if (auto address = runtime_api::address::parse(ip, where->port))
            return address;
    }
    spdlog::debug("cluster {}: member {}: no usable address of {}", settings_.scope, printable(member), where->host);
    return current;
}

const cluster_watch::resolved_name* cluster_watch::look_up(const std::string& host) {
    resolved_name& name = names_[host];
    const auto age = now() - name.asked;
    const bool fresh = name.asked != time_point{} && age < (name.trouble.empty() ? name_lives : name_retry);
    if (!fresh && !name.under_way) {
        name.under_way = true;
        tasks_.spawn(resolve_name(host));
    }
    return &name;
}

asio::awaitable<void> cluster_watch::resolve_name(std::string host) {
    auto answer = co_await etcd_http::resolve(host);
    resolved_name& name = names_[host];
    name.under_way = false;
    name.asked = now();
    if (answer.has_value()) {
        if (!name.trouble.empty())
            tell(severity::info, "member", fmt::format("host name {} resolves again", host));
        name.trouble.clear();
        name.addresses = std::move(*answer);
    } else {
        if (name.trouble.empty())
            tell(severity::warning, "member",
                 fmt::format("{}; {}, trying again every {} s", printable(answer.error().detail, 200),
                             name.addresses.empty() ? "its member is not served" : "its last address stays in use",
                             std::chrono::seconds(name_retry).count()));
        name.trouble = answer.error().detail;
    }
    refresh_addresses();
}

// --- probes

void cluster_watch::start_probers() {
    std::set<std::string> paths;
    for (const check& c : checks_)
        paths.insert(c.path);
    for (const auto& [name, m] : cluster_.members) {
        for (const std::string& path : paths) {
            const auto [it, is_new] = probers_.try_emplace({name, path});
            if (!is_new)
                continue;
            it->second = std::make_unique<alarm>(executor_);
            tasks_.spawn(probe_loop(name, path));
        }
    }
}

void cluster_watch::wake_probers(const std::string& member) {
    for (auto& [key, loop] : probers_) {
        if (key.first == member)
            loop->ring();
    }
}

const etcd_http::tls_context& cluster_watch::tls() {
    if (!probe_tls_) {
        auto system_cas = etcd_http::make_tls_context({});
        if (system_cas.has_value())
            probe_tls_ = *system_cas;
    }
    return probe_tls_;
}

std::optional<probe_target> cluster_watch::target_of(const std::string& name, const std::string& path) {
    const auto it = cluster_.members.find(name);
    if (it == cluster_.members.end() || !it->second.record.rest)
        return std::nullopt;
    const member& m = it->second;
    const auto& rest = *m.record.rest;
    const auto where = address_of(name, rest.where, std::nullopt);
    if (!where)
        return std::nullopt;
    probe_target target;
    target.request.ip = where->ip();
    target.request.port = where->port();
    target.request.host = rest.where.host;
    if (rest.tls && !(target.request.tls = tls()))
        return std::nullopt;
    target.request.target = path;
    target.postgres = m.connect;
    return target;
}

// Ends when its member is forgotten.
asio::awaitable<void> cluster_watch::probe_loop(std::string member, std::string path) {
    const auto key = std::pair(member, path);
    while (cluster_.members.contains(member)) {
        alarm& self = *probers_.at(key);
        self.reset();
        std::chrono::milliseconds delay = not_probeable_wait;
        if (const auto target = target_of(member, path)) {
            const auto result = co_await probe(*target, settings_.probe.timeout);
            // An answer of where the member was before it moved says nothing of where it is.
            const auto target_now = target_of(member, path);
            if (target_now && same_place(*target_now, *target))
                take_outcome(member, path, result);
            delay = jittered(next_delay(member, path));
        }
        co_await self.sleep_until(now() + delay);
    }
    probers_.erase(key);
}

void cluster_watch::take_outcome(const std::string& name, const std::string& path, const outcome& o) {
    if (!cluster_.members.contains(name))
        return;
    const probe_change change = agent::take_outcome(cluster_, checks_, name, path, o);
    metrics_.count_probe(settings_.scope, is_answer(o), o.received - o.sent);
    for (const check& what : change.turned) {
        const health& h = cluster_.members.at(name).probes.at(what);
        tell(severity::info, "member",
             fmt::format("{} {}: {} ({:.1f} ms)", path, to_string(h.last.what), describe(h),
                         std::chrono::duration<double, std::milli>(h.latency).count()),
             printable(name));
    }
    if (change.decides)
        changed_();
}

std::chrono::milliseconds cluster_watch::next_delay(const std::string& name, const std::string& path) const {
    auto delay = settings_.probe.interval;
    for (const check& c : checks_) {
        if (c.path == path)
            delay = std::min(delay, probe_delay(cluster_, name, c, settings_.probe.interval, now()));
    }
    return delay;
}

} // namespace pointsman::agent
