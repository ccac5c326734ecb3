// What Prometheus scrapes.
#include "../support/slots.hpp"
#include "agent/metrics.hpp"
#include "world.hpp"

#include <catch2/catch.hpp>

#include <iostream>

using namespace pointsman;
using namespace pointsman::test;
using namespace pointsman::agent;
using namespace std::chrono_literals;

namespace {

class scene {
public:
    scene() { w.member("n1").member("n2").leader("n1").says("n1", writable()).says("n2", standby()); }

    void see(const std::string& primary) {
        runtime_api::observation seen{{"2.6.12", 2, 6, 100, 5000, false}, slots("primary", primary), {}};
        p.begin();
        if (std::holds_alternative<count_sessions>(p.seen(std::move(seen), w.now)))
            p.counted(std::vector<runtime_api::server_statistics>{}, w.now);
    }

    std::string text() {
        for (const pool_tally& t : p.take_tallies())
            m.count(t);
        m.count_process_changes(p.take_process_changes());
        return m.text(p, w.now);
    }

    world w;
    passes p{{{w.settings, w.c, 5s}}, "/haproxy.sock"};
    metrics m{"1.2.3"};
};

bool has(const std::string& text, const std::string& part) {
    INFO(text);
    return text.find(part) != std::string::npos;
}

} // namespace

TEST_CASE("metrics: what is, looked up when it is scraped", "[metrics]") {
    scene s;
    const std::string before = s.text();
    CHECK(has(before, "\npointsman_build_info{version=\"1.2.3\"} 1\n"));
    CHECK(has(before, "\npointsman_haproxy_up 0\n"));
    CHECK(has(before, "\npointsman_pool_in_step{cluster=\"demo\",pool=\"primary\"} 0\n"));
    CHECK(has(before, "\npointsman_haproxy_commands_total{cluster=\"demo\",pool=\"primary\",taken=\"yes\"} 0\n"));
    CHECK_FALSE(has(before, "pointsman_pool_slots_desired"));

    s.w.c.confirmed = s.w.now;
    s.w.passes(4s);
    s.see("pg1 ready 10.0.0.1:5432, pg2 drain 10.0.0.2:5432 unchecked, pg3 maint");
    const std::string text = s.text();
    CHECK(has(text, "\npointsman_haproxy_up 1\n"));
    CHECK(has(text, "\npointsman_cluster_etcd_age_seconds{cluster=\"demo\"} 4\n"));
    CHECK(has(text, "\npointsman_cluster_etcd_readable{cluster=\"demo\"} 1\n"));
    CHECK(has(text, "\npointsman_cluster_etcd_watch_connected{cluster=\"demo\"} 0\n"));
    CHECK(has(text, "\npointsman_cluster_leader{cluster=\"demo\"} 1\n"));
    CHECK(has(text, "\npointsman_cluster_leader_term{cluster=\"demo\"} 1\n"));
    CHECK(has(text, "\npointsman_cluster_members{cluster=\"demo\"} 2\n"));
    CHECK(has(text, "\npointsman_pool_slots{cluster=\"demo\",pool=\"primary\",state=\"ready\"} 1\n"));
    CHECK(has(text, "\npointsman_pool_slots{cluster=\"demo\",pool=\"primary\",state=\"drain\"} 1\n"));
    CHECK(has(text, "\npointsman_pool_slots{cluster=\"demo\",pool=\"primary\",state=\"maint\"} 1\n"));
    CHECK(has(text, "\npointsman_pool_info{cluster=\"demo\",pool=\"primary\",role=\"primary\"} 1\n"));
    CHECK(has(text, "\npointsman_pool_info{cluster=\"demo\",pool=\"replicas\",role=\"replica\"} 1\n"));
    CHECK(has(text, "\npointsman_pool_slots_usable{cluster=\"demo\",pool=\"primary\"} 1\n"));
    CHECK(has(text, "\npointsman_pool_slots_used{cluster=\"demo\",pool=\"primary\"} 2\n"));
    CHECK(has(text, "\npointsman_pool_slots_kept{cluster=\"demo\",pool=\"primary\"} 0\n"));
    CHECK(has(text, "\npointsman_pool_slots_orphaned{cluster=\"demo\",pool=\"primary\"} 0\n"));
    CHECK(has(text, "\npointsman_pool_members{cluster=\"demo\",pool=\"primary\",answer=\"yes\"} 1\n"));
    CHECK(has(text, "\npointsman_pool_members{cluster=\"demo\",pool=\"primary\",answer=\"no\"} 1\n"));
    CHECK(has(text, "\npointsman_pool_slots_desired{cluster=\"demo\",pool=\"primary\",state=\"maint\"} 2\n"));
    CHECK(has(text, "\npointsman_pool_slots_free{cluster=\"demo\",pool=\"primary\"} 1\n"));
    CHECK(has(text, "\npointsman_pool_slots_unchecked{cluster=\"demo\",pool=\"primary\"} 1\n"));
    CHECK(has(text, "\npointsman_pool_members_without_slot{cluster=\"demo\",pool=\"primary\"} 0\n"));
    CHECK(has(text, "\npointsman_pool_in_step{cluster=\"demo\",pool=\"primary\"} 0\n"));
    CHECK(has(text, "\nprocess_resident_memory_bytes "));
    CHECK(has(text, "\nprocess_cpu_seconds_total "));
    CHECK(has(text, "\nprocess_open_fds "));
    CHECK(has(text, "\nprocess_max_fds "));
    CHECK(has(text, "\nprocess_start_time_seconds "));

    s.see("pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
    CHECK(has(s.text(), "\npointsman_pool_in_step{cluster=\"demo\",pool=\"primary\"} 1\n"));
    CHECK(has(s.text(), "\npointsman_pool_slots_free{cluster=\"demo\",pool=\"primary\"} 0\n"));
    s.w.c.watched = true;
    CHECK(has(s.text(), "\npointsman_cluster_etcd_watch_connected{cluster=\"demo\"} 1\n"));
    s.w.no_leader().passes(1min);
    CHECK(has(s.text(), "\npointsman_cluster_leader{cluster=\"demo\"} 0\n"));
    CHECK(has(s.text(), "\npointsman_cluster_etcd_readable{cluster=\"demo\"} 0\n"));
}

TEST_CASE("metrics: slots that are held against their node's last answer, taken down, or nobody's", "[metrics]") {
    scene s;
    s.see("pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 maint");
    s.w.says("n1", {.status = 503, .role = "master"});
    CHECK(has(s.text(), "\npointsman_pool_slots_kept{cluster=\"demo\",pool=\"primary\"} 1\n"));
    s.w.says("n1", silent());
    CHECK(has(s.text(), "\npointsman_pool_slots_kept{cluster=\"demo\",pool=\"primary\"} 1\n"));
    CHECK(has(s.text(), "\npointsman_pool_members{cluster=\"demo\",pool=\"primary\",answer=\"unknown\"} 1\n"));

    s.see("pg1 ready 10.0.0.1:5432 w0, pg2 maint 10.0.0.2:5432, pg3 maint");
    CHECK(has(s.text(), "\npointsman_pool_slots_usable{cluster=\"demo\",pool=\"primary\"} 0\n"));

    s.w.no_leader();
    s.see("pg1 maint 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 ready 10.0.0.9:5432");
    CHECK(has(s.text(), "\npointsman_pool_slots_orphaned{cluster=\"demo\",pool=\"primary\"} 1\n"));
}

TEST_CASE("metrics: two groups of one scope are two clusters", "[metrics]") {
    scene s;
    auto other = s.w.settings;
    other.group = 1;
    other.name_space = "/db/";
    other.pools.resize(1);
    other.pools[0].backend = "workers";
    const cluster unknown;
    const passes both{{{s.w.settings, s.w.c, 5s}, {other, unknown, 5s}}, "/haproxy.sock"};
    const std::string text = s.m.text(both, s.w.now);
    CHECK(has(text, "\npointsman_cluster_members{cluster=\"demo\"} 2\n"));
    CHECK(has(text, "\npointsman_cluster_members{cluster=\"demo\",group=\"1\",namespace=\"/db/\"} 0\n"));
}

TEST_CASE("metrics: commands, drift and processes are counted, and asking does not count them again", "[metrics]") {
    scene s;
    s.see("pg1 maint 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
    s.p.answered(runtime_api::result<void>(), s.w.now, s.w.now);
    CHECK(has(s.text(), "\npointsman_haproxy_commands_total{cluster=\"demo\",pool=\"primary\",taken=\"yes\"} 4\n"));
    s.see("pg1 maint 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
    s.p.answered(runtime_api::failure{runtime_api::errc::refused, "no"}, s.w.now, s.w.now);
    CHECK(has(s.text(), "\npointsman_haproxy_commands_total{cluster=\"demo\",pool=\"primary\",taken=\"yes\"} 4\n"));
    CHECK(has(s.text(), "\npointsman_haproxy_commands_total{cluster=\"demo\",pool=\"primary\",taken=\"no\"} 4\n"));

    s.see("pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
    CHECK(has(s.text(), "\npointsman_pool_drifts_total{cluster=\"demo\",pool=\"primary\"} 0\n"));
    s.see("pg1 ready 10.0.0.1:5432, pg2 ready 10.0.0.2:5432");
    CHECK(has(s.text(), "\npointsman_pool_drifts_total{cluster=\"demo\",pool=\"primary\"} 1\n"));
    CHECK(has(s.text(), "\npointsman_pool_drifts_repaired_total{cluster=\"demo\",pool=\"primary\"} 0\n"));
    s.see("pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
    CHECK(has(s.text(), "\npointsman_pool_drifts_repaired_total{cluster=\"demo\",pool=\"primary\"} 1\n"));
    CHECK(has(s.text(), "\npointsman_haproxy_process_changes_total 0\n"));
}

TEST_CASE("metrics: probes and exchanges are histograms", "[metrics]") {
    scene s;
    s.m.count_probe("demo", true, 3ms);
    s.m.count_probe("demo", false, 1s);
    s.m.count_exchange(150us);
    const std::string text = s.text();
    CHECK(has(text, "\npointsman_probe_seconds_bucket{answered=\"yes\",cluster=\"demo\",le=\"0.005\"} 1\n"));
    CHECK(has(text, "\npointsman_probe_seconds_count{answered=\"no\",cluster=\"demo\"} 1\n"));
    CHECK(has(text, "\npointsman_haproxy_exchange_seconds_bucket{le=\"0.0002\"} 1\n"));
}

TEST_CASE("metrics: every stage of a failover is a histogram", "[metrics]") {
    scene s;
    CHECK_FALSE(has(s.text(), "pointsman_failover_stage_seconds"));

    const time_point key{1h};
    s.m.count("demo", "primary",
              {.from = "n1",
               .to = "n2",
               .term = 7,
               .key_seen = key,
               .old_cut = key - 5s,
               .probe_yes = key + 300ms,
               .new_ready = key + 303ms,
               .read_back = key + 304ms});

    const std::string text = s.text();
    CHECK(has(text, R"(pointsman_failover_stage_seconds_count{cluster="demo",pool="primary",stage="old_cut"} 1)"));
    CHECK(has(text, R"(pointsman_failover_stage_seconds_sum{cluster="demo",pool="primary",stage="old_cut"} 0)"));
    CHECK(has(text, R"(pointsman_failover_stage_seconds_sum{cluster="demo",pool="primary",stage="new_ready"} 0.303)"));
    CHECK(has(text, R"(pointsman_failover_own_seconds_bucket{cluster="demo",pool="primary",le="0.005"} 1)"));
}

// tests/deploy compares what the alert rules and the dashboard name with this.
TEST_CASE("metrics: one of each, printed", "[.exposition]") {
    scene s;
    s.w.says("n2", silent()).reads("n1", standby()).reads("n2", readable(), 2);
    s.see("pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432, pg3 maint");
    for (const bool answered : {true, false})
        s.m.count_probe("demo", answered, 1ms);
    s.m.count_exchange(1ms);
    const time_point at{1h};
    s.m.count("demo", "primary",
              {.from = "n1",
               .to = "n2",
               .term = 7,
               .key_seen = at,
               .old_cut = at,
               .probe_yes = at,
               .new_ready = at,
               .read_back = at});
    std::cout << s.text();
}
