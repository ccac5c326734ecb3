#include "etcd_http/key_cache.hpp"

#include <algorithm>
#include <utility>

namespace pointsman::etcd_http {

verdict key_cache::apply(range_reply reply, std::int64_t asked_at, time_point now) {
    if (snapshot_.store == 0)
        return follow_anew(std::move(reply));
    if (reply.header.cluster_id != snapshot_.cluster_id || is_behind(reply.header, asked_at))
        return doubt(std::move(reply), now);
    rival_.reset();
    if (reply.header.revision < snapshot_.revision) // overtaken by the watch
        return verdict::unchanged;
    return take(std::move(reply));
}

verdict key_cache::apply(const watch_message& message) {
    if (message.header.cluster_id != snapshot_.cluster_id)
        return verdict::gone_back;
    if (is_behind(message.header, 0))
        return verdict::stale;
    raft_term_ = std::max(raft_term_, message.header.raft_term);
    bool changed = false;
    for (const key_event& event : message.events) {
        const std::int64_t revision = event.now.mod_revision;
        const auto known = snapshot_.keys.find(event.key);
        const auto deleted = tombstones_.find(event.key);
        if (revision <= read_at_ || (known != snapshot_.keys.end() && revision <= known->second.mod_revision) ||
            (deleted != tombstones_.end() && revision <= deleted->second))
            continue;
        if (event.deleted) {
            tombstones_[event.key] = revision;
            changed |= snapshot_.keys.erase(event.key) != 0;
        } else {
            snapshot_.keys.insert_or_assign(event.key, event.now);
            changed = true;
        }
        snapshot_.revision = std::max(snapshot_.revision, revision);
    }
    return changed ? verdict::changed : verdict::unchanged;
}

void key_cache::unanswered() {
    if (rival_)
        ++rival_->asked;
}

bool key_cache::is_behind(const reply_header& header, std::int64_t asked_at) const {
    // No term: a proxy that leaves it out.
    return header.revision < asked_at || (header.raft_term != 0 && header.raft_term < raft_term_);
}

verdict key_cache::doubt(range_reply reply, time_point now) {
    const reply_header& header = reply.header;
    if (!rival_ || rival_->last.cluster_id != header.cluster_id || header.revision < rival_->last.revision ||
        header.raft_term < rival_->last.raft_term)
        rival_ = rival{header, now, 0};
    rival_->last = header;
    ++rival_->asked;
    const bool from_all = rival_->asked >= endpoints_;
    if (from_all && now - rival_->since >= trial)
        return follow_anew(std::move(reply));
    const bool other_cluster = header.cluster_id != snapshot_.cluster_id;
    return other_cluster || from_all ? verdict::gone_back : verdict::stale;
}

verdict key_cache::take(range_reply reply) {
    snapshot_.revision = read_at_ = reply.header.revision;
    raft_term_ = std::max(raft_term_, reply.header.raft_term);
    tombstones_.clear();
    if (snapshot_.keys == reply.keys)
        return verdict::unchanged;
    snapshot_.keys = std::move(reply.keys);
    return verdict::changed;
}

verdict key_cache::follow_anew(range_reply reply) {
    snapshot_ = {.keys = {}, .revision = 0, .cluster_id = reply.header.cluster_id, .store = snapshot_.store + 1};
    raft_term_ = 0;
    rival_.reset();
    take(std::move(reply));
    return verdict::changed; // even where there is no key: it is the first word of this store
}

} // namespace pointsman::etcd_http
