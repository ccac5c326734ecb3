// One node: PostgreSQL under Patroni, as far as etcd, the REST API, the port and the sessions show it. Times are those
// that were measured (facts 1.4 to 1.6).
#pragma once

#include "etcd.hpp"
#include "random.hpp"
#include "routine.hpp"

#include "agent/health.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace pointsman::sim {

class node;

// What the nodes of one cluster share.
struct patroni {
    scheduler& clock;
    random& chance;
    etcd& store;
    std::string prefix;
    std::chrono::seconds ttl{30};
    std::chrono::seconds loop_wait{10};
    bool failsafe{};
    bool steals_lock{};         // up to 3.0.2: a leader that was frozen may take its key back (facts 1.6)
    bool ignores_requests{};    // for a switchover: no candidate is fit
    bool restarts_as_primary{}; // from 4.1 on, after a crash of PostgreSQL
    std::vector<std::unique_ptr<node>> nodes{};
    std::uint64_t newest_timeline{1};
    std::function<void(int)> postgres_stops{}; // at this host: its sessions end

    std::string key(const std::string& name) const { return prefix + name; }
    std::optional<std::string> leader() const { return store.get(key("leader")); }
    node* find(const std::string& name) const;
    node* at(int host) const; // what answers at 10.0.0.<host>
};

class node {
public:
    enum class postgres { stopped, starting, running, stopping, crashed };
    enum class rest { fine, hung, slow, garbage, unknown_state, says_master };

    node(patroni& of, std::string name, int host);

    // What stands at its REST API and its port. Where the network is cut, whoever asks does not get here.
    struct rest_answer {
        std::optional<unsigned> status; // none: refused, or no answer
        std::string body;
        bool refused{};
    };
    rest_answer ask(const std::string& path) const;
    std::optional<bool> port_open() const; // nullopt: no answer at all
    bool takes_sessions() const;
    bool is_writable() const { return pg == postgres::running && primary && writable && !frozen; }

    // The REST API says of itself what the agent needs to serve it.
    bool fit_primary() const;
    bool fit_replica(const node& leader) const;

    void start();                   // Patroni, and PostgreSQL where it does not run
    void crash();                   // kill -9 of both
    void kill_patroni();            // PostgreSQL goes on
    void crash_postgres();          // Patroni finds it
    void freeze(bool patroni_only); // SIGSTOP
    void thaw();
    void leave();                   // stopped for good, its key removed
    void move(int to);              // another address; Patroni tells etcd in its next loop
    void notice() { bell_.ring(); } // a key changed
    void rest_becomes(rest how) { rest_ = how; }
    bool alive() const { return patroni_up && !frozen; }
    bool may_lead() const;
    bool is_leader() const { return leads_ && role_ == "master" && is_writable(); }
    bool is_silent() const { return patroni_up && (frozen || rest_ == rest::hung || rest_ == rest::unknown_state); }

    std::string name;
    int host{};
    bool present{true};
    bool patroni_up{};
    bool frozen{}; // Patroni, and PostgreSQL too unless only_patroni
    bool only_patroni{};
    bool cut_off_from_etcd{};
    postgres pg{postgres::stopped};
    bool primary{}; // the role of PostgreSQL
    bool writable{};
    bool streaming{};
    std::uint64_t timeline{1};

private:
    routine<> run();
    routine<> cycle();
    routine<> promote();
    routine<> demote();
    routine<> hand_over();
    routine<> start_postgres(bool as_primary);
    routine<> race();
    routine<> take(duration time); // longer where it is frozen
    bool reaches_etcd() const { return !cut_off_from_etcd && of_.store.available(); }
    void tell_etcd();
    void stop_sessions() { of_.postgres_stops(host); }

    patroni& of_;
    rest rest_{rest::fine};
    alarm bell_;
    std::string role_{"replica"}; // of the body
    bool leads_{};                // its last lock update succeeded
    bool failsafe_active_{};
    time_point lock_seen_{};
    time_point etcd_seen_{};
    std::int64_t lease_{};
    std::string told_;
    crew life_;
};

} // namespace pointsman::sim
