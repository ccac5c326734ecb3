#include "etcd.hpp"

#include <algorithm>
#include <utility>

namespace pointsman::sim {

using namespace std::chrono_literals;
using etcd_http::key_event;

constexpr std::uint64_t foreign_id = 0x9999;

etcd::etcd(scheduler& clock, random& chance, std::size_t endpoints)
    : clock_(clock), chance_(chance), health_(endpoints, health::fine), behind_(endpoints) {}

bool etcd::available() const {
    const auto up = std::ranges::count_if(health_, [](health h) { return h != health::away && h != health::hung; });
    return static_cast<std::size_t>(up) * 2 > health_.size();
}

std::optional<std::string> etcd::get(const std::string& key) const {
    const auto it = store_.keys.find(key);
    return it == store_.keys.end() ? std::nullopt : std::optional(it->second.value);
}

void etcd::put(const std::string& key, const std::string& value, std::int64_t lease) {
    if (lease)
        store_.leases[key] = lease;
    else
        store_.leases.erase(key);
    commit({key_event{false, key, {value, 0}}});
}

bool etcd::create(const std::string& key, const std::string& value, std::int64_t lease) {
    if (store_.keys.contains(key))
        return false;
    put(key, value, lease);
    return true;
}

void etcd::erase(const std::string& key) {
    store_.leases.erase(key);
    if (store_.keys.contains(key))
        commit({key_event{true, key, {}}});
}

std::int64_t etcd::grant(std::chrono::seconds ttl) {
    const std::int64_t id = ++last_lease_;
    leases_[id] = {ttl, clock_.now() + ttl};
    clock_.in(ttl, [this, id] { expire(id); });
    return id;
}

bool etcd::keep_alive(std::int64_t id) {
    const auto it = leases_.find(id);
    if (it == leases_.end())
        return false;
    it->second.expires = clock_.now() + it->second.ttl;
    return true;
}

// A store without quorum expires nothing; when it has one again, all that is due goes at once.
void etcd::expire(std::int64_t id) {
    const auto it = leases_.find(id);
    if (it == leases_.end())
        return;
    if (it->second.expires > clock_.now() || !available()) {
        clock_.at(std::max(it->second.expires, clock_.now() + 20ms), [this, id] { expire(id); });
        return;
    }
    leases_.erase(it);
    std::vector<key_event> events;
    for (const auto& [key, lease] : store_.leases) {
        if (lease == id)
            events.push_back({true, key, {}});
    }
    for (const key_event& e : events)
        store_.leases.erase(e.key);
    if (!events.empty())
        commit(std::move(events));
}

void etcd::commit(std::vector<key_event> events) {
    ++store_.revision;
    for (key_event& e : events) {
        e.now.mod_revision = store_.revision;
        if (e.deleted)
            store_.keys.erase(e.key);
        else
            store_.keys.insert_or_assign(e.key, e.now);
    }
    store_.log.emplace_back(store_.revision, events);
    push();
    if (changed) {
        for (const key_event& e : events)
            changed(e.key);
    }
}

etcd_http::range_reply etcd::range(std::size_t endpoint) const {
    const store& s = behind_[endpoint] ? *behind_[endpoint] : store_;
    return {{s.cluster_id, s.revision, s.raft_term}, s.keys};
}

std::shared_ptr<etcd::watch> etcd::follow(std::size_t endpoint, std::int64_t from,
                                          std::function<void(const etcd_http::watch_message&)> on_message) {
    auto made = std::make_shared<watch>();
    made->on_message = std::move(on_message);
    made->endpoint = endpoint;
    made->told = from - 1 - (chance_.percent(20) ? 3 : 0); // before 3.4.24 and 3.5.8 it may repeat what was told
    made->ended = health_[endpoint] == health::away || !answers;
    watches_.push_back(made);
    push();
    return made;
}

void etcd::push() {
    std::erase_if(watches_, [](const auto& w) { return w.expired(); });
    for (const auto& weak : watches_) {
        const auto w = weak.lock();
        if (w->ended || w->deaf || health_[w->endpoint] != health::fine || !answers)
            continue;
        if (w->told >= store_.revision)
            continue;
        // What has been held back comes at once, as one piece of the stream.
        w->last = std::max(w->last, clock_.now() + chance_.between(300us, 4000us) + slowness);
        for (const auto& [revision, events] : store_.log) {
            if (revision <= w->told)
                continue;
            w->told = revision;
            const etcd_http::watch_message message{
                {store_.cluster_id, store_.revision, store_.raft_term}, false, false, 0, {}, events};
            clock_.at(w->last, [weak, message] {
                const auto open = weak.lock();
                if (open && !open->ended)
                    open->on_message(message);
            });
        }
    }
}

void etcd::set(std::size_t endpoint, health to) {
    if (health_[endpoint] == health::foreign)
        foreign_to_ = clock_.now();
    if (health_[endpoint] == health::behind) {
        was_behind_ = behind_[endpoint];
        caught_up_ = clock_.now();
    }
    behind_[endpoint].reset();
    if (to == health::behind || to == health::foreign) {
        behind_[endpoint] = store_;
        if (to == health::foreign) {
            behind_[endpoint]->cluster_id = foreign_id;
            foreign_from_ = clock_.now();
        }
    }
    health_[endpoint] = to;
    for (const auto& weak : watches_) {
        const auto w = weak.lock();
        if (w && w->endpoint == endpoint && (to == health::away || to == health::foreign))
            w->ended = true;
    }
    push();
}

std::optional<std::string> etcd::behind_said(const std::string& key, duration lately) const {
    const std::optional<store>* found = nullptr;
    for (std::size_t i = 0; i != health_.size(); ++i) {
        if (health_[i] == health::behind)
            found = &behind_[i];
    }
    if (!found && was_behind_ && clock_.now() - caught_up_ < lately)
        found = &was_behind_;
    const auto value = found ? (*found)->keys.find(key) : store_.keys.end();
    return !found || value == (*found)->keys.end() ? std::nullopt : std::optional(value->second.value);
}

bool etcd::misled(time_point begin, duration lately) const {
    const bool is = std::ranges::find(health_, health::foreign) != health_.end();
    const time_point to = is ? clock_.now() : foreign_to_;
    return foreign_from_ && begin >= *foreign_from_ && begin <= to && clock_.now() - to < lately;
}

void etcd::erase_all() {
    std::vector<key_event> events;
    for (const auto& [key, value] : store_.keys)
        events.push_back({true, key, {}});
    store_.leases.clear();
    if (!events.empty())
        commit(std::move(events));
}

void etcd::replace(store next) {
    break_watches();
    std::swap(store_, next);
    replaced_at_ = clock_.now();
    if (!changed)
        return;
    for (const auto* keys : {&next.keys, &store_.keys}) {
        for (const auto& [key, value] : std::map(*keys))
            changed(key);
    }
}

void etcd::wipe(bool other_cluster_id) {
    store fresh;
    fresh.cluster_id = store_.cluster_id + (other_cluster_id ? 1 : 0);
    leases_.clear();
    replace(std::move(fresh));
}

// The copy's leases count from the restart on; nobody keeps them alive.
void etcd::restore() {
    store old = *copy_;
    std::map<std::int64_t, std::int64_t> anew;
    leases_.clear();
    for (auto& [key, lease_id] : old.leases) {
        if (!anew.contains(lease_id))
            anew[lease_id] = grant(20s);
        lease_id = anew[lease_id];
    }
    replace(std::move(old));
}

void etcd::break_watches() {
    for (const auto& weak : watches_) {
        if (const auto w = weak.lock())
            w->ended = true;
    }
}

void etcd::silence_watches() {
    for (const auto& weak : watches_) {
        if (const auto w = weak.lock())
            w->deaf = true;
    }
}

void etcd::refresh_leases() {
    for (auto& [id, l] : leases_)
        l.expires = clock_.now() + l.ttl;
}

} // namespace pointsman::sim
