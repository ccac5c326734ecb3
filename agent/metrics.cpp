#include "agent/metrics.hpp"

#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>

namespace pointsman::agent {

namespace {

// From what HAProxy's socket needs to what an election after a crash does, in seconds.
const prometheus::Histogram::BucketBoundaries stage_buckets{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1,
                                                            0.2,   0.5,   1,     2,    5,    10,   30};

double seconds(std::chrono::nanoseconds time) {
    return std::max(0.0, std::chrono::duration<double>(time).count());
}

} // namespace

struct metrics::registry {
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
};

metrics::metrics() : registry_(std::make_unique<registry>()) {}

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

std::string metrics::text() const {
    return prometheus::TextSerializer().Serialize(registry_->all.Collect());
}

} // namespace pointsman::agent
