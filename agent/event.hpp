// Pure: what happened, decided where the reason is known, for the journal that `events` lists.
#pragma once

#include "agent/note.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pointsman::agent {

struct sent_command {
    std::string text;
    bool taken{};
    double ms{}; // of the exchange that it was sent in

    friend bool operator==(const sent_command&, const sent_command&) = default;
};

struct event {
    severity how{};
    std::string kind;      // slot, pool, failover, leader, member, etcd, haproxy or agent
    std::string scope{};   // of the cluster; empty: of no single one
    std::string subject{}; // BACKEND/SLOT, or BACKEND
    std::string member{};  // fit to print
    std::string text{};    // one sentence
    std::string why{};     // the rule that decided
    std::vector<sent_command> commands{};
    std::optional<std::uint64_t> cut{}; // sessions that ended with it, as counted just before

    friend bool operator==(const event&, const event&) = default;
};

using events = std::vector<event>;

} // namespace pointsman::agent
