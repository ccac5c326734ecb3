// Pure: see failover.hpp.
#include "agent/failover.hpp"

#include "etcd_http/patroni.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace pointsman::agent {

namespace {

std::string milliseconds(const failover& f, const std::optional<time_point>& at) {
    return at ? fmt::format("{:.1f}", std::chrono::duration<double, std::milli>(*at - f.key_seen).count()) : "-";
}

} // namespace

std::chrono::nanoseconds own_part(const failover& f) {
    const time_point out = std::max(f.key_seen, f.old_cut.value_or(f.key_seen));
    return *f.new_ready - f.key_seen - std::max(time_point::duration::zero(), *f.probe_yes - out);
}

std::string describe(const failover& f) {
    std::string text =
        fmt::format("failover from={} to={} term={} old_cut_ms={} probe_yes_ms={} new_ready_ms={} read_back_ms={}",
                    etcd_http::printable(f.from), etcd_http::printable(f.to), f.term, milliseconds(f, f.old_cut),
                    milliseconds(f, f.probe_yes), milliseconds(f, f.new_ready), milliseconds(f, f.read_back));
    if (f.probe_yes && f.new_ready)
        text += fmt::format(" own_ms={:.1f}", std::chrono::duration<double, std::milli>(own_part(f)).count());
    return text;
}

void failover_timer::look(const cluster& c, const check& what) {
    if (!c.leader)
        return;
    if (leader_ && *leader_ != c.leader->name) {
        current_ = failover{.from = *leader_,
                            .to = c.leader->name,
                            .term = c.leader->term,
                            .key_seen = c.leader_since,
                            .old_cut = last_out_,
                            .probe_yes = {},
                            .new_ready = {},
                            .read_back = {}};
        last_out_.reset();
    }
    leader_ = c.leader->name;
    if (!current_ || current_->probe_yes)
        return;
    const auto it = c.members.find(current_->to);
    const health* h = it == c.members.end() ? nullptr : find_health(it->second, what);
    if (h && says(*h, answer::yes) && h->sent >= current_->key_seen)
        current_->probe_yes = h->since >= current_->key_seen ? h->since : h->sent + h->latency;
}

void failover_timer::went_to_maint(const std::string& member, time_point at) {
    if (current_ && member != current_->to)
        current_->old_cut = at;
    last_out_ = at;
}

void failover_timer::went_to_ready(const std::string& member, time_point at) {
    last_out_.reset();
    if (current_ && member == current_->to)
        current_->new_ready = at;
}

std::optional<failover> failover_timer::seen_ready(const std::string& member, time_point at) {
    if (!current_ || member != current_->to || !current_->new_ready)
        return std::nullopt;
    current_->read_back = at;
    std::optional<failover> ended;
    ended.swap(current_);
    return ended;
}

} // namespace pointsman::agent
