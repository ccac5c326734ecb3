// Pure: what HAProxy says of itself and its slots: `show info`, `show servers state`, `show stat`.
//
// The parsers take the whole text of one dump as it was read from the socket. A text that is not in HAProxy's format is
// a failure as a whole: half a dump must never look like a smaller set of slots.
#pragma once

#include "runtime_api/address.hpp"
#include "runtime_api/error.hpp"

#include <chrono>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::runtime_api {

// The name of a slot, as HAProxy itself reported it: letters, digits and `_ . : -` only, which is what HAProxy accepts
// in a configuration and what needs no escaping on a command line (R13).
class slot_id {
public:
    static std::optional<slot_id> parse(std::string_view backend, std::string_view server);

    const std::string& backend() const { return backend_; }
    const std::string& server() const { return server_; }

    friend auto operator<=>(const slot_id&, const slot_id&) = default;

private:
    slot_id(std::string backend, std::string server) : backend_(std::move(backend)), server_(std::move(server)) {}

    std::string backend_;
    std::string server_;
};

// `primary/pg1`
std::string to_string(const slot_id& slot);

enum class admin_state { ready, drain, maint }; // HAProxy's own words for `set server ... state`
enum class operational_state { down, starting, up, stopping };

std::string_view to_string(admin_state state);
std::string_view to_string(operational_state state);

// One row of `show servers state`.
struct slot {
    slot_id id;
    std::optional<address> where; // nullopt: none the agent would ever set (no inet address, 0.0.0.0, port 0; facts 4)
    admin_state admin{};          // maint mask 0x23, drain mask 0x18; 0x04 marks `disabled` in the configuration only
    operational_state operational{};
    unsigned weight{};         // 0..256, srv_uweight
    unsigned initial_weight{}; // srv_iweight
    std::chrono::seconds since_change{};
    bool check_configured{}; // srv_check_state bit 2
    bool check_enabled{};    // srv_check_state bit 4: false after `disable health`

    friend bool operator==(const slot&, const slot&) = default;
};

// A server of this name is no slot: it is where connections wait in retries while no slot is usable (R11).
inline constexpr std::string_view hold_server = "hold";

// Ordered as HAProxy lists them, without `hold`. Takes the text from the line `1` on, whole lines only; trailing blank
// lines are fine.
result<std::vector<slot>> parse_servers_state(std::string_view text);

// The identity and state of the process that answered: (pid, start_time) tells a reload or restart (facts 5.2).
struct process_info {
    std::string version; // "2.6.12-1+deb12u4"
    unsigned major{};
    unsigned minor{};
    std::int64_t pid{};
    std::int64_t start_time{}; // seconds since the epoch; 0 where this version does not say
    bool stopping{};

    friend bool operator==(const process_info&, const process_info&) = default;
};

result<process_info> parse_info(std::string_view text);

// One server row of `show stat` (CSV), found by column name: the columns grow with every version. Takes the whole
// answer with the empty line that ends it.
struct server_statistics {
    std::string backend;
    std::string server;
    std::string status;       // "UP", "UP 1/3", "DOWN", "MAINT", "DRAIN", "no check", ...
    std::uint64_t sessions{}; // scur
};

result<std::vector<server_statistics>> parse_stat(std::string_view text);

// How a server was declared in HAProxy's configuration, as far as `show servers state` tells (facts 3).
struct declared_server {
    slot_id id;
    bool addressable{}; // has an inet address; without one none can be set (facts 4)
    bool named{};       // declared with a host name: the state file restores its address (facts 5.1)
    bool disabled{};
    bool checked{};
    std::uint32_t check_port{}; // 0: the port of its address
    bool own_check_address{};   // its check does not follow its address

    friend bool operator==(const declared_server&, const declared_server&) = default;
};

// The same rows as parse_servers_state, in the same order.
result<std::vector<declared_server>> parse_declarations(std::string_view text);

// A backend in `show stat`, with its server `hold` where it has one.
struct backend_statistics {
    std::string mode;      // "tcp", "http"
    std::string algorithm; // "roundrobin", ...; empty where the socket's level is below operator

    struct hold {
        bool backup{};
        std::uint64_t maxconn{}; // 0: no limit

        friend bool operator==(const hold&, const hold&) = default;
    };
    std::optional<hold> held;

    friend bool operator==(const backend_statistics&, const backend_statistics&) = default;
};

// By name.
result<std::map<std::string, backend_statistics>> parse_backends(std::string_view text);

// Everything one observation brings.
struct observation {
    process_info process;
    std::vector<slot> slots;
    std::string dump; // the text of `show servers state`, for HAProxy's state file (state_file.hpp)
};

// The answer to `show info;show servers state`, to the end of the connection. Every shorter piece of it is a failure,
// for HAProxy ends each of the two with an empty line.
result<observation> parse_observation(std::string_view reply);

} // namespace pointsman::runtime_api
