// HAProxy with its slots, sessions, checks, reloads and restarts, as it was measured (facts 1.3, 3 to 6).
#pragma once

#include "random.hpp"
#include "scheduler.hpp"

#include "runtime_api/command.hpp"
#include "runtime_api/old_worker.hpp"
#include "runtime_api/server_state.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace pointsman::sim {

using runtime_api::address;
using runtime_api::command;
using runtime_api::slot_id;

// Who did something to a slot or a session.
enum class by { agent, somebody, check, process };

struct proxy_slot {
    slot_id id;
    address where;
    std::optional<address> pending{}; // an address change on its way, from 2.9 on
    bool maint{true};
    bool drain{};
    bool up{};
    unsigned weight{1};
    bool checked{true};
    unsigned failures{};  // of HAProxy's check, in a row
    unsigned fall{3};     // failures until it is down
    time_point touched{}; // by somebody else than the agent

    bool ready() const { return !maint && !drain; }
};

struct proxy_session {
    std::uint64_t key{};
    std::size_t slot{}; // of the process
    address to;         // the node, by its address when it was opened
    time_point opened{};
    time_point ends{};
};

struct proxy_process {
    std::int64_t pid{};
    std::int64_t started{};
    std::vector<proxy_slot> slots;
    std::vector<proxy_session> sessions;
};

struct proxy_shape {
    bool async_address{};     // 2.9 and later
    bool literal{};           // slots declared with an address, not a name: the state file does not restore them
    bool cuts_on_maint{true}; // on-marked-down shutdown-sessions
    std::size_t slots{};      // of each backend
    std::vector<std::string> backends;
};

class haproxy {
public:
    haproxy(scheduler& clock, random& chance, proxy_shape what);

    // The stats socket: the text of its answers.
    std::string info(bool of_old) const;
    std::string observe(bool of_old) const;
    std::string statistics();
    runtime_api::process_info identify(bool of_old) const;
    // Carries out what it can; `fails_at`: the command that is refused, and none after it.
    std::string carry_out(std::span<const command> batch, by whom, std::optional<std::size_t> fails_at = {});
    bool next_is_old(); // after a reload the old process may answer a few times more

    // The master socket.
    std::vector<runtime_api::old_worker> old_workers() const;
    void cut(std::int64_t pid, std::span<const runtime_api::open_session> sessions);

    // Clients.
    std::vector<std::size_t> usable(const std::string& backend) const;
    const proxy_process& now() const { return process_; }
    const std::vector<proxy_process>& old() const { return old_; }
    void open(std::size_t slot, duration lives);
    void end_sessions_at(const std::string& ip); // the node has closed them
    void end_finished();

    // Faults.
    void reload();
    void stop();                                                   // all sessions end, the socket is gone
    void start();                                                  // from the state file
    void checked(std::size_t slot, std::int64_t pid, bool passes); // its own check has ended
    std::vector<proxy_slot> restored() const;                      // what a new process begins with

    std::string state_file;
    bool ignores_addresses{}; // answers, and changes none
    const proxy_shape shape;
    bool down{};
    std::uint64_t changes{}; // of what a dump shows
    std::uint64_t commands{};
    // Before the agent gives a slot, takes one that was ready or changes an address, and when a session is cut.
    std::function<void(const proxy_slot&)> on_ready;
    std::function<void(const proxy_slot&)> on_taken;
    std::function<void(const proxy_slot&)> on_address;
    std::function<void(const proxy_slot&, const proxy_session&, by, bool of_old)> on_cut;

private:
    void apply(const command& c, by whom);
    std::string reply_to(const command& c) const;
    proxy_slot& find(const slot_id& id);
    void cut_slot(const proxy_slot& s, by whom);
    void set_address(const slot_id& id, const address& where);
    std::vector<proxy_slot> initial() const;
    std::string dump(const proxy_process& p) const;

    scheduler& clock_;
    random& chance_;
    proxy_process process_;
    std::vector<proxy_process> old_;
    std::int64_t last_pid_{1000};
    std::uint64_t last_session_{};
    int old_answers_{};
};

} // namespace pointsman::sim
