// Everything of one run: the clock, chance, etcd, nodes, HAProxy, the network between them and the agent, clients, and
// the referee who looks at it all.
#pragma once

#include "etcd.hpp"
#include "haproxy.hpp"
#include "node.hpp"
#include "random.hpp"
#include "referee.hpp"
#include "routine.hpp"
#include "shell.hpp"

#include "config/settings.hpp"

#include <fmt/format.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace pointsman::sim {

struct counts {
    std::uint64_t passes{};
    std::uint64_t probes{};
    std::uint64_t files{};
    std::uint64_t sessions{};
    std::uint64_t cut{};
    std::map<std::string, std::uint64_t> faults;
};

struct world {
    enum class socket_state { fine, refused, hung, cut, failing };

    world(std::uint64_t seed, bool traced);
    ~world();

    // Until it breaks an invariant or its time is up.
    void run(std::chrono::minutes time);

    // What the agent meets.
    std::string answer(const std::string& question, const std::vector<runtime_api::command>& batch);
    runtime_api::process_info process();
    node::rest_answer ask_node(int host, const std::string& path) const;
    std::optional<bool> ask_port(int host) const;
    duration rest_delay(int host) const;
    std::chrono::system_clock::time_point wall() const {
        return std::chrono::system_clock::time_point(
                   std::chrono::duration_cast<std::chrono::system_clock::duration>(clock.now().time_since_epoch())) +
               wall_offset;
    }
    void pass_begins();
    void pass_goes_on();

    // The trace; the text is made only where somebody reads it.
    template<class Text>
    void tell(const char* who, Text&& text) {
        if (traced)
            add_line(who, text());
    }
    void log_notes(const agent::notes& notes);
    void add_line(const char* who, const std::string& text);

    void start_agent();
    void kill_agent() { running.reset(); }
    void set_socket(socket_state to);
    void add_node();
    node* leader() const;                // by the key
    std::vector<node*> replicas() const; // the others that are present
    std::vector<node*> present() const;
    void heal(); // every fault that a part may still have

    const bool traced;
    scheduler clock;
    sim::random chance;
    config::cluster_settings settings;
    std::chrono::milliseconds poll_interval{5000};
    etcd store;
    patroni cluster;
    haproxy proxy;
    sim::counts counts;
    referee judge;
    std::unique_ptr<shell> running;
    std::string ip_of(const node& n) const;
    int host_of(const std::string& ip) const; // 0: none of the cluster's

    // The network and the machine of the agent.
    socket_state socket{};
    duration socket_delay{};
    std::vector<std::vector<runtime_api::command>> late; // read by a HAProxy that hung, not carried out yet
    std::set<int> cut_off;                               // hosts that the agent does not reach
    duration slow_rest{};
    bool disk_full{};
    int reloads_in_a_pass{}; // that come between a command that takes a slot and its answer
    std::uint64_t file_written{};
    std::chrono::seconds wall_offset{};

    std::function<void(const std::string&)> on_line; // of the trace
    std::deque<std::string> lines;                   // its last ones
    std::uint64_t digest{14695981039346656037ULL};

private:
    routine<> clients(std::string backend, std::chrono::milliseconds longest_pause);
    routine<> own_checks();
    node::rest_answer ask_check(const proxy_slot& s) const;
    routine<> turns();

    int steps_{};
    crew people_;
};

} // namespace pointsman::sim
