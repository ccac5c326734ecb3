#include "agent/metrics.hpp"

#include "agent/desire.hpp"

#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <system_error>
#include <utility>

namespace pointsman::agent {

namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

using buckets = prometheus::Histogram::BucketBoundaries;

// From what HAProxy's socket needs to what an election after a crash does, in seconds.
const buckets stage_buckets{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30};
const buckets probe_buckets{0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2};
const buckets exchange_buckets{0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1, 5};

double seconds(std::chrono::nanoseconds time) {
    return std::max(0.0, std::chrono::duration<double>(time).count());
}

using labels = std::vector<std::pair<std::string, std::string>>;

// Two groups of one scope, or two namespaces with the same, are two clusters.
labels labels_of(const config::cluster_settings& cluster) {
    labels its{{"cluster", cluster.scope}};
    if (cluster.group)
        its.emplace_back("group", std::to_string(*cluster.group));
    if (cluster.name_space != config::cluster_settings().name_space)
        its.emplace_back("namespace", cluster.name_space);
    return its;
}

// One family of values that are looked up when they are scraped.
class looked_up {
public:
    looked_up(std::string name, std::string help, MetricType type = MetricType::Gauge)
        : family_{std::move(name), std::move(help), type, {}} {}

    void add(const labels& of, double value) {
        ClientMetric metric;
        for (const auto& [name, text] : of)
            metric.label.push_back({name, text});
        if (family_.type == MetricType::Counter)
            metric.counter.value = value;
        else
            metric.gauge.value = value;
        family_.metric.push_back(std::move(metric));
    }

    const MetricFamily& family() const { return family_; }

private:
    MetricFamily family_;
};

void add_clusters(std::vector<MetricFamily>& all, const std::vector<followed_cluster>& clusters, time_point now) {
    looked_up age("pointsman_cluster_etcd_age_seconds", "Since etcd was last read in full, or the daemon started");
    looked_up is_readable("pointsman_cluster_etcd_readable",
                          "1 while etcd's word is young enough to decide by; 0: probes alone decide");
    looked_up watched(
        "pointsman_cluster_etcd_watch_connected",
        "1 while etcd has confirmed a watch that has not ended; 0: changes are found by the next full read");
    looked_up leads("pointsman_cluster_leader", "1 while the leader key names a member");
    looked_up term("pointsman_cluster_leader_term", "Revision of etcd at which the leader key got its present value");
    looked_up count("pointsman_cluster_members", "Members that are known");
    for (const followed_cluster& of : clusters) {
        const cluster& c = of.state;
        const labels its = labels_of(of.settings);
        if (c.known)
            age.add(its, seconds(now - c.confirmed));
        is_readable.add(its, readable(c, of.poll_interval, now) ? 1 : 0);
        watched.add(its, c.watched ? 1 : 0);
        leads.add(its, c.leader ? 1 : 0);
        if (c.leader)
            term.add(its, static_cast<double>(c.leader->term));
        count.add(its, static_cast<double>(c.members.size()));
    }
    for (const looked_up* each : {&age, &is_readable, &watched, &leads, &term, &count})
        all.push_back(each->family());
}

double count_desired(const pool_outlook& pool, bool (*which)(const desired_slot&)) {
    return static_cast<double>(std::ranges::count_if(pool.desired, which));
}

void add_pools(std::vector<MetricFamily>& all, const passes& decided, time_point now) {
    constexpr std::array states{admin_state::ready, admin_state::drain, admin_state::maint};
    looked_up info("pointsman_pool_info", "1; the pool's role is a label");
    looked_up slots("pointsman_pool_slots", "Slots of the pool by the state that HAProxy has them in");
    looked_up usable("pointsman_pool_slots_usable", "Ready slots that get connections: up and with a weight");
    looked_up desired("pointsman_pool_slots_desired", "Slots of the pool by the state that they should be in");
    looked_up used("pointsman_pool_slots_used", "Slots that are a member's");
    looked_up free("pointsman_pool_slots_free", "Slots that are no member's and in maint");
    looked_up orphaned("pointsman_pool_slots_orphaned",
                       "Slots that are in service or drained with an address that is no member's");
    looked_up kept("pointsman_pool_slots_kept",
                   "Slots kept in service although their node's last answer was a first no, or none");
    looked_up unplaced("pointsman_pool_members_without_slot", "Members for which there was no free slot");
    looked_up guarded("pointsman_pool_slots_unchecked",
                      "Slots whose own check by HAProxy is suspended: kept, held or drained by the agent's judgement");
    looked_up in_step("pointsman_pool_in_step", "1 while HAProxy has the slots as they should be");
    looked_up answers("pointsman_pool_members",
                      "Members by their node's last answer to the pool's check; one that was not asked yet is in none");
    for (const pool_outlook& pool : decided.outlook(now)) {
        const labels its{{"cluster", pool.of.settings.scope}, {"pool", pool.settings.backend}};
        const auto with = [&its](const std::string& name, std::string_view value) {
            labels more = its;
            more.emplace_back(name, value);
            return more;
        };
        info.add(with("role", pool.settings.role == config::pool_role::primary ? "primary" : "replica"), 1);
        for (const admin_state state : states) {
            slots.add(with("state", to_string(state)),
                      static_cast<double>(std::ranges::count(pool.slots, state, &runtime_api::slot::admin)));
            if (!pool.desired.empty())
                desired.add(with("state", to_string(state)),
                            static_cast<double>(std::ranges::count(pool.desired, state, &desired_slot::state)));
        }
        usable.add(its, static_cast<double>(std::ranges::count_if(pool.slots, [](const runtime_api::slot& s) {
                       return s.admin == admin_state::ready && s.weight > 0 &&
                              s.operational != runtime_api::operational_state::down &&
                              s.operational != runtime_api::operational_state::stopping;
                   })));
        for (const answer said : {answer::yes, answer::no, answer::unknown})
            answers.add(with("answer", to_string(said)),
                        static_cast<double>(std::ranges::count_if(pool.of.state.members, [&pool, said](const auto& m) {
                            const health* h = find_health(m.second, check_of(pool.settings));
                            return h && says(*h, said);
                        })));
        in_step.add(its, pool.in_step() ? 1 : 0);
        guarded.add(its, static_cast<double>(std::ranges::count_if(pool.slots, [](const runtime_api::slot& s) {
                        return s.check_configured && !s.check_enabled;
                    })));
        if (pool.desired.empty())
            continue;
        used.add(its, count_desired(pool, [](const desired_slot& d) { return d.member.has_value(); }));
        free.add(its,
                 count_desired(pool, [](const desired_slot& d) { return !d.member && d.state == admin_state::maint; }));
        orphaned.add(
            its, count_desired(pool, [](const desired_slot& d) { return !d.member && d.state != admin_state::maint; }));
        kept.add(its,
                 count_desired(pool, [](const desired_slot& d) { return d.state == admin_state::ready && !d.check; }));
        unplaced.add(its, static_cast<double>(pool.without_slot));
    }
    for (const looked_up* each :
         {&info, &in_step, &slots, &usable, &desired, &used, &free, &orphaned, &kept, &guarded, &unplaced, &answers})
        all.push_back(each->family());
}

// Under the names that every client library of Prometheus gives them.
void add_process(std::vector<MetricFamily>& all) {
    looked_up memory("process_resident_memory_bytes", "Resident memory of the daemon");
    std::ifstream statm("/proc/self/statm");
    double total = 0;
    double resident = 0;
    if (statm >> total >> resident)
        memory.add({}, resident * static_cast<double>(sysconf(_SC_PAGESIZE)));

    looked_up cpu("process_cpu_seconds_total", "Time of a core that the daemon has used", MetricType::Counter);
    rusage used{};
    if (getrusage(RUSAGE_SELF, &used) == 0) {
        const auto of = [](const timeval& t) {
            return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
        };
        cpu.add({}, of(used.ru_utime) + of(used.ru_stime));
    }

    looked_up files("process_open_fds", "Open files and sockets of the daemon");
    std::error_code error;
    const std::filesystem::directory_iterator folder("/proc/self/fd", error);
    if (!error)
        files.add({}, static_cast<double>(std::distance(begin(folder), end(folder)) - 1)); // without the folder itself

    looked_up most_files("process_max_fds", "How many it may have open");
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        most_files.add({}, static_cast<double>(limit.rlim_cur));
    for (const looked_up* each : {&memory, &cpu, &files, &most_files})
        all.push_back(each->family());
}

} // namespace

struct metrics::registry {
    explicit registry(const std::string& version) {
        prometheus::BuildGauge()
            .Name("pointsman_build_info")
            .Help("1; the version is its label")
            .Register(all)
            .Add({{"version", version}})
            .Set(1);
        prometheus::BuildGauge()
            .Name("process_start_time_seconds")
            .Help("When the daemon was started, in seconds since 1970")
            .Register(all)
            .Add({})
            .Set(std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count());
    }

    prometheus::Registry all;
    prometheus::Family<prometheus::Histogram>& stages =
        prometheus::BuildHistogram()
            .Name("pointsman_failover_stage_seconds")
            .Help(
                "From the leader key that named another member to each stage: old_cut (the old slot out, its sessions "
                "cut; 0 where that was before), probe_yes (the new leader said that it is writable), new_ready (its "
                "slot was set to ready), read_back (HAProxy said so)")
            .Register(all);
    prometheus::Family<prometheus::Histogram>& own =
        prometheus::BuildHistogram()
            .Name("pointsman_failover_own_seconds")
            .Help("The agent's own part of the time from the leader key to the new slot ready: without what the new "
                  "leader needed to become writable")
            .Register(all);
    prometheus::Family<prometheus::Histogram>& probes =
        prometheus::BuildHistogram()
            .Name("pointsman_probe_seconds")
            .Help("Probes of the members' REST APIs; answered=no: there was no usable answer in time")
            .Register(all);
    prometheus::Histogram& exchanges = prometheus::BuildHistogram()
                                           .Name("pointsman_haproxy_exchange_seconds")
                                           .Help("Exchanges with HAProxy's stats socket, the failed ones too")
                                           .Register(all)
                                           .Add({}, exchange_buckets);
    prometheus::Family<prometheus::Counter>& commands = prometheus::BuildCounter()
                                                            .Name("pointsman_haproxy_commands_total")
                                                            .Help("Commands sent to HAProxy, by whether it took them")
                                                            .Register(all);
    prometheus::Family<prometheus::Counter>& drifts =
        prometheus::BuildCounter()
            .Name("pointsman_pool_drifts_total")
            .Help("Slots that were found changed by somebody else, or by a restart of HAProxy")
            .Register(all);
    prometheus::Family<prometheus::Counter>& repairs =
        prometheus::BuildCounter()
            .Name("pointsman_pool_drifts_repaired_total")
            .Help("Slots that were found changed, and then as they should be")
            .Register(all);
    prometheus::Counter& process_changes = prometheus::BuildCounter()
                                               .Name("pointsman_haproxy_process_changes_total")
                                               .Help("How often another process of HAProxy answered: reloads, restarts")
                                               .Register(all)
                                               .Add({});
};

metrics::metrics(const std::string& version) : registry_(std::make_unique<registry>(version)) {}

metrics::~metrics() = default;

void metrics::count(const std::string& scope, const std::string& backend, const failover& f) {
    const auto stage = [this, &scope, &backend, &f](const std::string& name, const std::optional<time_point>& at) {
        if (at)
            registry_->stages.Add({{"cluster", scope}, {"pool", backend}, {"stage", name}}, stage_buckets)
                .Observe(seconds(*at - f.key_seen));
    };
    stage("old_cut", f.old_cut);
    stage("probe_yes", f.probe_yes);
    stage("new_ready", f.new_ready);
    stage("read_back", f.read_back);
    if (f.probe_yes && f.new_ready)
        registry_->own.Add({{"cluster", scope}, {"pool", backend}}, stage_buckets).Observe(seconds(own_part(f)));
}

void metrics::count(const pool_tally& t) {
    const std::map<std::string, std::string> its{{"cluster", t.scope}, {"pool", t.backend}};
    auto taken = its;
    taken.emplace("taken", "yes");
    auto refused = its;
    refused.emplace("taken", "no");
    registry_->commands.Add(taken).Increment(t.commands);
    registry_->commands.Add(refused).Increment(t.failures);
    registry_->drifts.Add(its).Increment(t.drifts);
    registry_->repairs.Add(its).Increment(t.repaired);
}

void metrics::count_probe(const std::string& scope, bool answered, std::chrono::nanoseconds took) {
    registry_->probes.Add({{"cluster", scope}, {"answered", answered ? "yes" : "no"}}, probe_buckets)
        .Observe(seconds(took));
}

void metrics::count_exchange(std::chrono::nanoseconds took) {
    registry_->exchanges.Observe(seconds(took));
}

void metrics::count_process_changes(unsigned changes) {
    registry_->process_changes.Increment(changes);
}

std::string metrics::text(const passes& decided, time_point now) const {
    auto all = registry_->all.Collect();
    looked_up up("pointsman_haproxy_up", "1 while HAProxy's stats socket answers");
    up.add({}, decided.process() && decided.trouble().empty() ? 1 : 0);
    looked_up paused("pointsman_paused", "1 while `pointsman pause` lasts: nothing is sent to HAProxy");
    paused.add({}, decided.given().how == conduct::paused ? 1 : 0);
    looked_up shadow("pointsman_shadow", "1 where the daemon only watches (`run --shadow`)");
    shadow.add({}, decided.given().how == conduct::shadow ? 1 : 0);
    for (const looked_up* each : {&up, &paused, &shadow})
        all.push_back(each->family());
    add_clusters(all, decided.clusters(), now);
    add_pools(all, decided, now);
    add_process(all);
    std::erase_if(all, [](const MetricFamily& family) { return family.metric.empty(); });
    return prometheus::TextSerializer().Serialize(all);
}

} // namespace pointsman::agent
