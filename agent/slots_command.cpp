#include "agent/slots_command.hpp"

#include "agent/ask_daemon.hpp"
#include "agent/pause.hpp"
#include "agent/run_to_end.hpp"
#include "agent/slot_map.hpp"
#include "agent/wiring.hpp"
#include "etcd_http/exchange.hpp"
#include "etcd_http/patroni.hpp"

#include <boost/asio/io_context.hpp>

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <vector>

namespace pointsman::agent {

namespace asio = boost::asio;
using etcd_http::printable;

namespace {

void remark(const std::string& text) {
    fmt::print(stderr, "pointsman: {}\n", printable(text, 400));
}

// What the daemon said of one slot is of use only while the slot still has the address it said it of.
void add_daemons_word(std::vector<slot_row>& rows, const std::vector<slot_row>& said) {
    for (slot_row& row : rows) {
        for (const slot_row& s : said) {
            if (s.backend != row.backend || s.slot != row.slot || s.address != row.address || s.port != row.port)
                continue;
            row.member = s.member;
            row.desired = s.desired;
            row.why = s.why;
            // Seen later than the daemon's last pass: in step only if it was then, and is what was desired.
            if (s.in_step)
                row.in_step = *s.in_step && row.desired == row.state;
        }
    }
}

asio::awaitable<bool> add_desired(const config::settings& settings, std::vector<slot_row>& rows) {
    const auto answer = co_await ask_daemon(settings, "/api/v1/slots");
    if (answer.has_error()) {
        remark(answer.error().detail + ": what is desired is not known");
        co_return false;
    }
    const auto said = parse_json(*answer);
    if (said.has_error()) {
        remark(
            fmt::format("what answers is no daemon of Pointsman's ({}): what is desired is not known", said.error()));
        co_return false;
    }
    add_daemons_word(rows, *said);
    co_return true;
}

// Without the daemon: the names of the members whose addresses the slots have.
asio::awaitable<void> ask_etcd(const config::settings& settings, std::vector<slot_row>& rows) {
    etcd_http::gateway gateway(gateway_settings(settings.etcd));
    for (const config::cluster_settings& cluster : settings.clusters) {
        const std::string prefix = config::key_prefix(cluster);
        const auto snapshot = co_await gateway.read(prefix);
        if (snapshot.has_error()) {
            remark(fmt::format("{}: members of {} are not known", snapshot.error().detail, cluster.scope));
            continue;
        }
        const auto view = etcd_http::parse_cluster(snapshot->keys, prefix, snapshot->revision);
        for (const auto& [name, record] : view.members) {
            for (const config::pool_settings& pool : cluster.pools) {
                const auto& where = pool.use_proxy_url ? record.proxy : record.connect;
                if (!where)
                    continue;
                const auto addresses = co_await etcd_http::resolve(where->host);
                if (addresses.has_error())
                    continue;
                for (slot_row& row : rows) {
                    const bool same = row.backend == pool.backend && row.port == where->port && row.address &&
                                      std::ranges::count(*addresses, *row.address) != 0;
                    if (same)
                        row.member = name;
                }
            }
        }
    }
}

asio::awaitable<void> collect(const config::settings& settings, bool json, int& status) {
    const runtime_api::session session(haproxy_target(settings));
    const auto seen = co_await session.observe();
    if (seen.has_error()) {
        remark(seen.error().detail);
        status = 3;
        co_return;
    }
    const auto statistics = co_await session.statistics();
    if (statistics.has_error())
        remark(statistics.error().detail + ": sessions are not known");

    const auto backends = backends_of(settings);
    std::vector<slot_row> rows;
    for (const runtime_api::slot& s : seen->slots) {
        if (!backends.contains(s.id.backend()))
            continue;
        slot_row row = row_of(s);
        if (statistics.has_value()) {
            for (const auto& line : *statistics) {
                if (line.backend == row.backend && line.server == row.slot)
                    row.sessions = line.sessions;
            }
        }
        rows.push_back(std::move(row));
    }
    for (const std::string& backend : backends) {
        if (std::ranges::none_of(rows, [&backend](const slot_row& row) { return row.backend == backend; }))
            remark(fmt::format("HAProxy has no backend {} with slots", backend));
    }
    const bool answered = co_await add_desired(settings, rows);
    if (!answered)
        co_await ask_etcd(settings, rows);

    const std::string text =
        json ? render_json(rows) + '\n' : render_table(rows, {.colour = isatty(STDOUT_FILENO) == 1});
    std::fwrite(text.data(), 1, text.size(), stdout);
}

} // namespace

int slots_command(const config::settings& settings, bool json) {
    const auto pause = read_pause(pause_file(settings));
    if (pause)
        remark(fmt::format("PAUSED until {}: the agent sends nothing", describe(*pause)));
    int status = 0;
    asio::io_context context(1);
    run_to_end(context, collect(settings, json, status));
    return status;
}

} // namespace pointsman::agent
