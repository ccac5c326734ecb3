// What must hold whatever happens, looked at after every event (what may never be, not for an instant) and every tenth
// of a second (what may last a while, but no longer).
//
// The truth is that of etcd's keys and of the nodes as the simulation has them, not what the agent believes.
#pragma once

#include "haproxy.hpp"
#include "node.hpp"
#include "scheduler.hpp"

#include "agent/slot_map.hpp"

#include <array>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pointsman::sim {

struct world;

// What the agent needs in order to act.
enum class part { agent, haproxy, etcd, nodes };

struct broken_invariant {
    std::string name;
    std::string what;
    time_point at{};
};

class referee {
public:
    explicit referee(world& w) : w_(w) {}

    // A fault takes a part from the agent, and gives it back.
    void take(part p);
    void give_back(part p);
    void by_hand() { by_hand_ = now(); }   // somebody changed slots
    void replaced() { replaced_ = now(); } // HAProxy by another process, or a batch half carried out

    void moved() { settled_ = now(); }       // a node, whether or not etcd knows
    void disturbed() { disturbed_ = now(); } // by a fault that begins or ends

    void key_changed(const std::string& key);
    // The agent has been told this by a node that it asked.
    void node_said(int host, const std::string& path, const agent::outcome& heard);
    void agent_started();
    void new_process();
    void given(const proxy_slot& s);
    void taken(const proxy_slot& s); // a slot that was ready
    void readdressed(const proxy_slot& s);
    void cut(const proxy_slot& s, const proxy_session& session, by whom);
    void after_event();
    void tick();
    void fail(std::string name, std::string what);

    bool whole() const { return whole_.since.has_value(); } // cluster healthy, agent sighted, all served
    const std::optional<broken_invariant>& broken() const { return broken_; }

private:
    // A state that may last for a while.
    struct lasting {
        std::optional<time_point> since{};
        void is(bool so, time_point now) {
            if (!so)
                since.reset();
            else if (!since)
                since = now;
        }
        bool longer(duration bound, time_point now) const { return since && now - *since > bound; }
        bool from(time_point begin, duration bound, time_point now) const {
            return since && now - std::max(*since, begin) > bound;
        }
    };

    time_point now() const;
    std::optional<time_point> sighted(bool etcd_too = true) const; // since when the agent has all that it needs
    std::string ip_told(const node& n) const;
    bool named_another(const std::string& name, duration within) const;
    duration in_flight() const;
    bool follows_old_store() const;
    bool gives_way(const proxy_slot& s) const;
    bool of_late(time_point said) const;
    std::optional<agent::slot_row> row_of(const proxy_slot& s) const;
    std::optional<std::string> member_of(const proxy_slot& s) const;
    std::string reason_of(const proxy_slot& s) const;
    bool excused(const proxy_slot& s) const;
    std::string name_at(const std::string& ip) const;
    bool moves(const proxy_slot& s) const;
    bool says_no_twice(int host) const;
    bool another_says_yes(int host) const;
    bool justified(const proxy_slot& s, const proxy_session& session) const;
    void look_at_state_file();
    bool healthy() const;
    std::size_t doubled() const;
    std::string unserved(bool leader_only) const; // why not all is served as it should be; empty: it is

    world& w_;
    std::optional<broken_invariant> broken_;

    std::array<int, 4> taken_{};
    std::array<time_point, 4> taken_at_{};
    std::array<time_point, 4> back_{};
    time_point agent_since_{};
    time_point process_since_{};
    bool whole_before_process_{};
    time_point by_hand_{};
    time_point replaced_{};
    time_point disturbed_{};
    time_point settled_{}; // the last change of who is a member, and where

    std::vector<std::pair<time_point, std::string>> leaders_; // every value of the key, "" where it was gone
    std::optional<time_point> asked_;                         // a switchover that is not carried out yet
    time_point last_asked_{};
    std::map<std::string, std::string> address_of_; // by member's key
    std::map<std::string, std::string> last_told_;  // the same, of one that is gone too
    std::map<std::string, time_point> moved_;       // when this address got or lost its member to another
    std::map<std::string, time_point> gone_;        // since when no member has this address

    struct words {
        time_point otherwise{};
        time_point dead{};
        int noes{}; // of a running primary, in a row
        time_point first_no{};
        time_point second_no{};             // when they counted last
        std::optional<time_point> silent{}; // since when nothing but silence is heard of it
        time_point last_silent{};
        time_point no_port{};
        std::optional<time_point> yes{}; // the last word, and when it was asked for
        time_point yes_ended{};
        time_point yes_of_term{};   // the first that was asked for after the leader key
        time_point replica_since{}; // the first of those in a row
        int replica_yeses{};
        int yeses_before{};      // `replica_no`
        time_point replica_no{}; // or silence
    };
    std::map<int, words> said_; // by host, to the agent that runs

    std::uint64_t seen_changes_{};
    duration socket_was_{}; // the socket's delay, as long as there was one
    time_point socket_slow_at_{};

    lasting two_ready_;
    lasting same_address_;
    lasting healthy_;
    lasting unserved_;
    lasting lost_;
    lasting whole_;
    lasting misrouted_;
    lasting writable_; // the leader
    lasting graceless_;
    lasting late_;
    lasting dead_;
    time_point last_whole_{};
    lasting left_;
    lasting foreign_;
    std::uint64_t passes_before_{};
    int ticks_{};
};

} // namespace pointsman::sim
