// etcd as Patroni and the agent meet it: revisions, leases, watches; one or three endpoints, each of which may be away,
// hung, behind or of another etcd; a store that is wiped or restored from an older copy.
#pragma once

#include "random.hpp"
#include "scheduler.hpp"

#include "etcd_http/codec.hpp"

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace pointsman::sim {

class etcd {
public:
    enum class health { fine, away, hung, behind, foreign };

    // A watch of the agent's; it hears no more of a watch that it has let go.
    struct watch {
        std::function<void(const etcd_http::watch_message&)> on_message;
        bool ended{}; // by the server, or the connection broke
        bool deaf{};  // open and silent for ever: a connection that something between has forgotten
        std::size_t endpoint{};
        std::int64_t told{}; // up to this revision
        time_point last{};   // no message overtakes another
    };

    etcd(scheduler& clock, random& chance, std::size_t endpoints);

    // Patroni's side, through whichever endpoint is fine. `changed` is called with each key that changes.
    bool available() const;
    std::optional<std::string> get(const std::string& key) const;
    void put(const std::string& key, const std::string& value, std::int64_t lease = 0);
    bool create(const std::string& key, const std::string& value, std::int64_t lease);
    void erase(const std::string& key);
    std::int64_t grant(std::chrono::seconds ttl);
    bool keep_alive(std::int64_t id); // false: it has expired
    std::function<void(const std::string&)> changed;

    // The agent's side.
    std::size_t endpoints() const { return health_.size(); }
    health state_of(std::size_t endpoint) const { return health_[endpoint]; }
    etcd_http::range_reply range(std::size_t endpoint) const;
    std::shared_ptr<watch> follow(std::size_t endpoint, std::int64_t from,
                                  std::function<void(const etcd_http::watch_message&)> on_message);
    time_point replaced_at() const { return replaced_at_; } // the last time that the store became another one

    // Faults.
    void set(std::size_t endpoint, health to);
    void erase_all();                 // every key, in one revision
    void wipe(bool other_cluster_id); // a new store: nothing in it, revisions from 1
    void restore();                   // the copy that `back_up` made
    void back_up() { copy_ = store_; }
    void break_watches();
    void silence_watches();
    void refresh_leases(); // etcd gives them their whole time when it starts

    // What an endpoint that is behind, or was until `lately` ago, has of the key.
    std::optional<std::string> behind_said(const std::string& key, duration lately) const;
    // Whether an endpoint was foreign at `begin`, when an agent began that had no store yet to hold it against, and is
    // still, or was until `lately` ago.
    bool misled(time_point begin, duration lately) const;

    bool answers{true};  // between the agent and etcd
    duration slowness{}; // of each message to the agent

private:
    struct granted {
        std::chrono::seconds ttl{};
        time_point expires{};
    };
    struct store {
        std::uint64_t cluster_id{0x1111};
        std::int64_t revision{1};
        std::uint64_t raft_term{2};
        std::map<std::string, etcd_http::key_value> keys;
        std::map<std::string, std::int64_t> leases; // by key
        std::vector<std::pair<std::int64_t, std::vector<etcd_http::key_event>>> log;
    };

    void commit(std::vector<etcd_http::key_event> events);
    void push();
    void expire(std::int64_t id);
    void replace(store next);

    scheduler& clock_;
    random& chance_;
    std::vector<health> health_;
    std::vector<std::optional<store>> behind_; // what an endpoint that is behind or foreign answers
    std::optional<store> was_behind_;          // the last of those that were behind
    time_point caught_up_{};
    std::optional<time_point> foreign_from_; // the last foreign one
    time_point foreign_to_{};
    time_point replaced_at_{};
    store store_;
    std::optional<store> copy_;
    std::int64_t last_lease_{};
    std::map<std::int64_t, granted> leases_;
    std::list<std::weak_ptr<watch>> watches_;
};

} // namespace pointsman::sim
