// A client of etcd's v3 JSON gateway that follows the keys under one prefix: a watch for speed, a full read beside it
// for truth (design 4, `poll_interval`).
//
// What the follower is told never goes back: an answer older than what was told is dropped (errc::stale), another
// cluster id or a store whose revision stays behind is reported and not told (errc::gone_back); whoever holds the last
// keys keeps them, until nothing but the new store has answered for 30 s (key_cache.hpp says why). An error is never
// told as an empty set of keys.
//
// Endpoints are taken in turn: one that fails or hangs is left at once for the next, with a back-off (0.1 s to 2 s,
// with jitter) when all have failed in a row. The watch carries `Grpc-Metadata-hasleader: true`, so that a member
// without quorum ends it; the full read runs on a connection of its own and finds a watch that hangs or lost something.
// With a user name, a token is kept for each endpoint and renewed once when it is refused (facts 5.5).
//
// Endpoints given by name are looked up when they are first used and again after they failed; a look-up cannot be cut
// short, and while the name server hangs so does the turn to that endpoint. Addresses have no such wait.
#pragma once

#include "etcd_http/error.hpp"
#include "etcd_http/key_cache.hpp"
#include "etcd_http/tls.hpp"

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace pointsman::etcd_http {

struct gateway_endpoint {
    bool tls{};
    std::string host; // name or numeric address, without brackets
    std::uint16_t port{};
};

struct gateway_settings {
    std::vector<gateway_endpoint> endpoints; // at least one
    std::string username;                    // empty: no authentication
    std::string password;
    tls_context tls; // where an endpoint uses TLS
    std::chrono::milliseconds poll_interval{5000};
    std::chrono::milliseconds deadline{3000}; // of one read, one authentication, and of the watch's first answer
};

// What the follower is told, on the executor that runs `follow`. None of these may block.
struct follower {
    // The keys changed, or were read for the first time. Called only with a whole, newer state.
    std::function<void(const key_snapshot&)> changed;
    // A full read succeeded (whether or not anything changed): the data is as old as this call.
    std::function<void()> confirmed;
    // A read, a watch or an endpoint failed; what was told so far stays. Called for every failure: the caller decides
    // which of them is worth a log line.
    std::function<void(const failure&)> failed;
    // True: etcd has confirmed the watch, and changes come at once. False: it has ended, and until the next one only
    // full reads bring them.
    std::function<void(bool)> watching;
};

class gateway {
public:
    // Throws invalid_argument where an endpoint uses TLS and there are no TLS settings.
    explicit gateway(gateway_settings settings);
    ~gateway();
    gateway(const gateway&) = delete;
    gateway& operator=(const gateway&) = delete;

    // One full read of the keys under `prefix`, from the first endpoint that answers; the last failure where none does.
    boost::asio::awaitable<result<key_snapshot>> read(std::string prefix);

    // Follows `prefix` (which ends with a slash) until cancelled (terminal), then throws operation_aborted with nothing
    // left behind. `who` must outlive the call.
    boost::asio::awaitable<void> follow(std::string prefix, const follower& who);

private:
    struct state;
    std::unique_ptr<state> state_;
};

} // namespace pointsman::etcd_http
