// Pure: the keys under one prefix as the follower is told them, kept current by full reads and watch events.
//
// What is told never goes back. Each answer is compared with the store that was followed so far:
//
//  - stale: the same cluster id with a lower revision or raft term than seen before. A member that lags or was cut off
//    answers like this; the others know better.
//  - gone_back: another cluster id; or stale answers from every endpoint in turn, which no lagging member explains: a
//    store that was wiped or restored (it keeps its cluster id when its initial token and members are the same).
//
// In both cases the keys stay as they are. But if nothing else answers for `trial` (every answer belongs to one and the
// same new store, and every endpoint was asked), that store is followed from then on, with `store` one higher. Waiting
// costs nothing: HAProxy keeps its slots and roles follow the probes (R4, R5). Never giving in would need a restart of
// every agent after each restore of etcd; giving in at once would let one wrong answer replace the cluster.
#pragma once

#include "etcd_http/codec.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace pointsman::etcd_http {

// The keys under a prefix at one revision of the store.
struct key_snapshot {
    std::map<std::string, key_value> keys;
    std::int64_t revision{};
    std::uint64_t cluster_id{};
    std::uint64_t store{}; // 1 for the first store followed; revisions compare only within one
};

enum class verdict { changed, unchanged, stale, gone_back };

class key_cache {
public:
    using time_point = std::chrono::steady_clock::time_point;
    static constexpr std::chrono::seconds trial{30};

    // `endpoints` are asked in turn. REQUIRES: at least one.
    explicit key_cache(std::size_t endpoints) : endpoints_(endpoints) {}

    // A full read. `asked_at` is `snapshot().revision` when it was sent: a linearizable read is never older than that,
    // but a watch may have brought something newer meanwhile, which stays.
    verdict apply(range_reply reply, std::int64_t asked_at, time_point now);

    // All events of a message at once, before anybody is told: a lease that expires takes the leader's and the member's
    // key in one revision. Events that are not newer than what is there are ignored: etcd before 3.4.24 and 3.5.8 may
    // repeat them.
    verdict apply(const watch_message& message);

    // An endpoint was asked and gave no answer: it cannot speak for the old store.
    void unanswered();

    const key_snapshot& snapshot() const { return snapshot_; }

private:
    // The store that answers instead of the one that was followed.
    struct rival {
        reply_header last;
        time_point since{};
        std::size_t asked{}; // endpoints asked since then
    };

    bool is_behind(const reply_header& header, std::int64_t asked_at) const;
    verdict doubt(range_reply reply, time_point now);
    verdict take(range_reply reply);
    verdict follow_anew(range_reply reply);

    std::size_t endpoints_;
    key_snapshot snapshot_;
    std::uint64_t raft_term_{};
    std::int64_t read_at_{};                         // revision of the last full read: it covers everything up to here
    std::map<std::string, std::int64_t> tombstones_; // keys deleted since, with the revision that did it
    std::optional<rival> rival_;
};

} // namespace pointsman::etcd_http
