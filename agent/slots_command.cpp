#include "agent/slots_command.hpp"

#include "agent/ask_daemon.hpp"
#include "agent/pause.hpp"
#include "agent/run_to_end.hpp"
#include "agent/slot_map.hpp"
#include "agent/wiring.hpp"
#include "etcd_http/exchange.hpp"
#include "etcd_http/patroni.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <vector>

namespace pointsman::agent {

namespace asio = boost::asio;
using etcd_http::printable;

namespace {

constexpr std::chrono::seconds watch_interval{1};

// The slot map at one moment.
struct picture {
    std::vector<slot_row> rows;
    std::vector<std::string> remarks;
    int status{};

    void remark(const std::string& text) { remarks.push_back(printable(text, 400)); }
};

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

asio::awaitable<bool> add_desired(const config::settings& settings, picture& seen) {
    const auto answer = co_await ask_daemon(settings, "/api/v1/slots");
    if (answer.has_error()) {
        seen.remark(answer.error().detail + ": what is desired is not known");
        co_return false;
    }
    const auto said = parse_json(*answer);
    if (said.has_error()) {
        seen.remark(
            fmt::format("what answers is no daemon of Pointsman's ({}): what is desired is not known", said.error()));
        co_return false;
    }
    add_daemons_word(seen.rows, *said);
    co_return true;
}

// Without the daemon: the names of the members whose addresses the slots have.
asio::awaitable<void> ask_etcd(const config::settings& settings, picture& seen) {
    etcd_http::gateway gateway(gateway_settings(settings.etcd));
    for (const config::cluster_settings& cluster : settings.clusters) {
        const std::string prefix = config::key_prefix(cluster);
        const auto snapshot = co_await gateway.read(prefix);
        if (snapshot.has_error()) {
            seen.remark(fmt::format("{}: members of {} are not known", snapshot.error().detail, cluster.scope));
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
                for (slot_row& row : seen.rows) {
                    const bool same = row.backend == pool.backend && row.port == where->port && row.address &&
                                      std::ranges::count(*addresses, *row.address) != 0;
                    if (same)
                        row.member = name;
                }
            }
        }
    }
}

asio::awaitable<void> take(const config::settings& settings, picture& seen) {
    seen = {};
    if (const auto pause = read_pause(pause_file(settings)))
        seen.remark(fmt::format("PAUSED until {}: the agent sends nothing", describe(*pause)));
    const runtime_api::session session(haproxy_target(settings));
    const auto observed = co_await session.observe();
    if (observed.has_error()) {
        seen.remark(observed.error().detail);
        seen.status = 3;
        co_return;
    }
    const auto statistics = co_await session.statistics();
    if (statistics.has_error())
        seen.remark(statistics.error().detail + ": sessions are not known");

    const auto backends = backends_of(settings);
    for (const runtime_api::slot& s : observed->slots) {
        if (!backends.contains(s.id.backend()))
            continue;
        slot_row row = row_of(s);
        if (statistics.has_value()) {
            for (const auto& line : *statistics) {
                if (line.backend == row.backend && line.server == row.slot)
                    row.sessions = line.sessions;
            }
        }
        seen.rows.push_back(std::move(row));
    }
    for (const std::string& backend : backends) {
        if (std::ranges::none_of(seen.rows, [&backend](const slot_row& row) { return row.backend == backend; }))
            seen.remark(fmt::format("HAProxy has no backend {} with slots", backend));
    }
    const bool answered = co_await add_desired(settings, seen);
    if (!answered)
        co_await ask_etcd(settings, seen);
}

void print(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
}

bool on_terminal() {
    return isatty(STDOUT_FILENO) == 1;
}

// From the upper left corner, over what was there, long lines cut: nothing flickers.
std::string drawn_over(const std::string& text) {
    std::string result = "\x1b[H\x1b[?7l";
    for (const char c : text)
        result += c == '\n' ? std::string("\x1b[K\n") : std::string(1, c);
    return result + "\x1b[J\x1b[?7h";
}

asio::awaitable<void> watch(const config::settings& settings) {
    const auto executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    for (;;) {
        picture seen;
        co_await take(settings, seen);
        const auto now = fmt::localtime(std::time(nullptr));
        std::string text = fmt::format("{:%F %T}\n", now);
        if (seen.status == 0)
            text += render_table(seen.rows, {.colour = on_terminal()});
        for (const std::string& remark : seen.remarks)
            text += remark + '\n';
        print(on_terminal() ? drawn_over(text) : text);
        timer.expires_after(watch_interval);
        co_await timer.async_wait(asio::use_awaitable);
    }
}

} // namespace

int slots_command(const config::settings& settings, const slots_options& options) {
    asio::io_context context(1);
    if (options.watch) {
        print(on_terminal() ? "\x1b[2J" : "");
        run_to_end(context, watch(settings));
    }
    picture seen;
    run_to_end(context, take(settings, seen));
    for (const std::string& remark : seen.remarks)
        fmt::print(stderr, "pointsman: {}\n", remark);
    if (seen.status == 0)
        print(options.json ? render_json(seen.rows) + '\n' : render_table(seen.rows, {.colour = on_terminal()}));
    return seen.status;
}

} // namespace pointsman::agent
