#include "agent/check_command.hpp"

#include "agent/preflight.hpp"
#include "agent/preflight_haproxy.hpp"
#include "agent/probe.hpp"
#include "agent/task_group.hpp"
#include "agent/wiring.hpp"
#include "runtime_api/master.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace pointsman::agent {

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

constexpr auto patience = 10s;
constexpr std::string_view no_answer_yet = "no answer within 10 s";
constexpr std::size_t largest_file = std::size_t{16} << 20; // of HAProxy's configuration

// What the coroutines fill in; until they are done it says that there was no answer.
struct look {
    const config::settings& settings;
    task_group& parts;
    std::vector<etcd_http::tls_context> probe_tls; // of each cluster
    std::vector<endpoint_seen> endpoints;
    std::set<std::size_t> asked{};     // clusters whose members are being asked
    std::deque<member_seen> members{}; // references stay good
    haproxy_seen haproxy{};
};

std::string reason(int error) {
    return std::generic_category().message(error);
}

// --- etcd and the members

asio::awaitable<void> ask_member(look& into, std::size_t cluster, etcd_http::rest_url rest, member_seen& seen) {
    const config::cluster_settings& settings = into.settings.clusters[cluster];
    const auto addresses = co_await etcd_http::resolve(rest.where.host);
    if (addresses.has_error()) {
        seen.trouble = addresses.error().detail;
        co_return;
    }
    probe_target target;
    target.request.ip = addresses->front();
    target.request.port = rest.where.port;
    target.request.host = rest.where.host;
    target.request.tls = rest.tls ? into.probe_tls[cluster] : nullptr;
    std::set<std::string> paths;
    for (const config::pool_settings& pool : settings.pools)
        paths.insert(pool.check);
    for (const std::string& path : paths) {
        target.request.target = path;
        auto answer = co_await probe(target, settings.probe.timeout);
        seen.answers.emplace_back(path, std::move(answer));
    }
    seen.trouble.clear();
}

void ask_members(look& into, std::size_t cluster, const etcd_http::cluster_view& view) {
    if (!into.asked.insert(cluster).second)
        return;
    for (const auto& [name, record] : view.members) {
        if (!record.rest)
            continue;
        member_seen& seen = into.members.emplace_back();
        seen.scope = into.settings.clusters[cluster].scope;
        seen.name = name;
        seen.where = fmt::format("{}:{}", record.rest->where.host, record.rest->where.port);
        seen.trouble = no_answer_yet;
        into.parts.spawn(ask_member(into, cluster, *record.rest, seen));
    }
}

asio::awaitable<void> ask_endpoint(look& into, std::size_t index, etcd_http::gateway_settings only) {
    etcd_http::gateway gateway(std::move(only));
    endpoint_seen& seen = into.endpoints[index];
    for (std::size_t i = 0; i != into.settings.clusters.size(); ++i) {
        const std::string prefix = config::key_prefix(into.settings.clusters[i]);
        const auto keys = co_await gateway.read(prefix);
        if (keys.has_error()) {
            seen.failed = keys.error();
            co_return;
        }
        seen.clusters.push_back({keys->cluster_id, etcd_http::parse_cluster(keys->keys, prefix, keys->revision)});
        ask_members(into, i, seen.clusters.back().view);
    }
    seen.failed.reset();
}

// --- HAProxy

// `show env`: what HAProxy was started with and what its configuration set, secrets perhaps. Nothing of it is printed
// but HAPROXY_CFGFILES. Empty where the socket's level does not allow it.
cfg_environment parse_environment(std::string_view text) {
    cfg_environment environment;
    while (!text.empty()) {
        const auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        if (const auto equals = line.find('='); equals != std::string_view::npos)
            environment.emplace(line.substr(0, equals), line.substr(equals + 1));
    }
    return environment;
}

// The text of a file; nullopt with the reason in `trouble`. Looks before it opens, for to open a pipe would wait.
std::optional<std::string> read_file(const std::string& path, std::string& trouble) {
    struct stat about {};
    if (::stat(path.c_str(), &about) != 0) {
        trouble = path + ": " + reason(errno);
    } else if (!S_ISREG(about.st_mode)) {
        trouble = path + ": no regular file";
    } else if (static_cast<std::uintmax_t>(about.st_size) > largest_file) {
        trouble = fmt::format("{}: more than {} MiB", path, largest_file >> 20);
    } else {
        std::ifstream file(path, std::ios::binary);
        if (file)
            return std::string(std::istreambuf_iterator<char>(file), {});
        trouble = path + ": " + reason(errno);
    }
    return std::nullopt;
}

bool changed_since(const std::string& path, std::int64_t time) {
    struct stat about {};
    return time != 0 && ::stat(path.c_str(), &about) == 0 && about.st_mtim.tv_sec > time;
}

bool is_here(const runtime_api::socket_target& target) {
    boost::system::error_code error;
    const auto address = asio::ip::make_address(target.host, error);
    return !target.path.empty() || (!error && address.is_loopback());
}

void read_configuration(haproxy_seen& seen, const runtime_api::socket_target& target,
                        const cfg_environment& environment) {
    const auto files = environment.find("HAPROXY_CFGFILES"); // `a.cfg;b.cfg`; a folder is given as what is in it
    if (files == environment.end() || files->second.empty())
        seen.unread = "the socket does not say which files HAProxy was started with (level operator does)";
    else if (!is_here(target))
        seen.unread = "HAProxy is on another host";
    if (!seen.unread.empty())
        return;
    for (std::string_view rest = files->second; !rest.empty();) {
        const auto name = rest.substr(0, rest.find(';'));
        rest.remove_prefix(std::min(name.size() + 1, rest.size()));
        const bool absolute = name.starts_with('/');
        const std::string path = absolute ? std::string(name) : fmt::format("/proc/{}/cwd/{}", seen.process.pid, name);
        const auto text = read_file(path, seen.unread);
        if (!text)
            return;
        seen.files.emplace_back(name);
        seen.changed |= changed_since(path, seen.process.start_time);
        read_haproxy_cfg(seen.sections, *text, environment);
    }
}

void look_at_state_file(haproxy_seen& seen, const std::string& file) {
    if (file.empty())
        return;
    seen.state_file_there = ::access(file.c_str(), F_OK) == 0;
    const std::string folder = std::filesystem::path(file).parent_path();
    if (::access(folder.c_str(), W_OK | X_OK) != 0)
        seen.state_trouble = fmt::format("the folder {} cannot be written by this user: {}", folder, reason(errno));
}

// The process and its slots; the failure, if any.
asio::awaitable<std::optional<runtime_api::failure>> ask_slots(const runtime_api::socket_target& target,
                                                               haproxy_seen& seen) {
    const runtime_api::session session(target);
    const auto state = co_await session.observe();
    if (state.has_error())
        co_return state.error();
    const auto servers = runtime_api::about(target, runtime_api::parse_declarations(state->dump));
    if (servers.has_error())
        co_return servers.error();
    const runtime_api::exchange_limits limits;
    const auto statistics = co_await exchange(target, "show stat\n", limits, runtime_api::last_word::server);
    if (statistics.has_error())
        co_return statistics.error();
    const auto backends = runtime_api::about(target, runtime_api::parse_backends(*statistics));
    if (backends.has_error())
        co_return backends.error();
    seen.process = state->process;
    seen.servers = *servers;
    seen.backends = *backends;
    co_return std::nullopt;
}

asio::awaitable<void> ask_configuration(const runtime_api::socket_target& target, haproxy_seen& seen) {
    const runtime_api::exchange_limits limits;
    const auto level = co_await exchange(target, "show cli level\n", limits, runtime_api::last_word::server);
    if (level.has_value())
        seen.level = level->substr(0, level->find('\n'));
    const auto environment = co_await exchange(target, "show env\n", limits, runtime_api::last_word::server);
    const auto known = environment.has_value() ? parse_environment(*environment) : cfg_environment();
    seen.has_master = known.contains("HAPROXY_MWORKER");
    read_configuration(seen, target, known);
}

asio::awaitable<void> ask_haproxy(const config::settings& settings, haproxy_seen& seen) {
    look_at_state_file(seen, settings.haproxy.state_file);
    const auto target = haproxy_target(settings);
    const auto failed = co_await ask_slots(target, seen);
    if (failed) {
        seen.failed = failed;
        co_return;
    }
    co_await ask_configuration(target, seen);
    if (!settings.haproxy.master_socket.empty()) {
        const runtime_api::master master(settings.haproxy.master_socket);
        const auto workers = co_await master.old_workers();
        if (workers.has_error())
            seen.master_failed = workers.error();
    }
    seen.failed.reset();
}

// --- All of it

// Starts a question to each endpoint; a finding where the files that the settings name cannot be used.
void start_etcd(look& into, std::vector<finding>& found) {
    try {
        for (const config::cluster_settings& cluster : into.settings.clusters) {
            auto tls = probe_tls(cluster.probe);
            if (!tls) {
                auto system_cas = etcd_http::make_tls_context({});
                if (system_cas.has_value())
                    tls = *system_cas;
            }
            into.probe_tls.push_back(std::move(tls));
        }
        const auto all = gateway_settings(into.settings.etcd);
        for (const etcd_http::gateway_endpoint& endpoint : all.endpoints) {
            into.endpoints.push_back({fmt::format("{}:{}", endpoint.host, endpoint.port),
                                      etcd_http::failure{etcd_http::errc::timeout, std::string(no_answer_yet)}});
        }
        for (std::size_t i = 0; i != all.endpoints.size(); ++i) {
            auto only = all;
            only.endpoints = {all.endpoints[i]};
            into.parts.spawn(ask_endpoint(into, i, std::move(only)));
        }
    } catch (const std::runtime_error& e) {
        found.push_back({severity::wrong, "pointsman.yml", e.what(), "The agent does not start; etcd was not asked.",
                         "a file that the agent's user may read; this is what `check` sees as the user who runs it"});
    }
}

} // namespace

int check_command(const config::settings& settings, const std::string& path) {
    std::size_t pools = 0;
    for (const auto& cluster : settings.clusters)
        pools += cluster.pools.size();
    std::vector<finding> found = {
        {severity::well, path,
         fmt::format("{} cluster{}, {} pool{}", settings.clusters.size(), settings.clusters.size() == 1 ? "" : "s",
                     pools, pools == 1 ? "" : "s")}};

    asio::io_context context(1);
    task_group parts(context.get_executor());
    look seen{settings, parts, {}, {}};
    seen.haproxy.failed = runtime_api::failure{runtime_api::errc::timeout, std::string(no_answer_yet)};
    start_etcd(seen, found);
    parts.spawn(ask_haproxy(settings, seen.haproxy));
    context.run_for(patience);

    const auto add = [&found](std::vector<finding> more) {
        found.insert(found.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
    };
    const std::vector<member_seen> members(seen.members.begin(), seen.members.end());
    std::vector<const etcd_http::cluster_view*> views;
    for (std::size_t i = 0; i != settings.clusters.size(); ++i)
        views.push_back(view_of(seen.endpoints, i));
    add(judge_etcd(settings, seen.endpoints));
    add(judge_members(members));
    add(judge_haproxy(settings, seen.haproxy, views));

    const std::string text = render(found);
    std::fwrite(text.data(), 1, text.size(), stdout);
    const int status = exit_status(found);
    if (!context.stopped()) {
        // A name server that hangs would be waited for by the destructor of its look-up's thread.
        std::fflush(stdout);
        std::_Exit(status);
    }
    return status;
}

} // namespace pointsman::agent
