// Pure: see preflight.hpp.
#include "agent/preflight.hpp"

#include "agent/terminal_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

namespace pointsman::agent {

namespace {

// Longer than any sentence of ours with a name of Patroni's in it; what comes from outside may be longer.
constexpr std::size_t longest_line = 600;

std::string mend_of_endpoint(etcd_http::errc kind) {
    using enum etcd_http::errc;
    switch (kind) {
        case denied:
        case unauthorised:
            return "pointsman.yml: etcd.username and etcd.password_file of a user who may read these keys (etcdctl "
                   "role "
                   "grant-permission ROLE --prefix=true read /service/)";
        case unusable:
            return "etcd: the JSON gateway must be on (--enable-grpc-gateway), and --host-whitelist must let this host "
                   "in";
        case no_leader: return "etcd: its cluster has no quorum: etcdctl endpoint status --cluster";
        case unreachable:
        case refused:
        case timeout:
            return "pointsman.yml: etcd.endpoints (host, port, http or https); or etcd itself: systemctl status etcd";
        default: return "pointsman.yml: etcd.endpoints must name etcd's client port";
    }
}

// What failed names whom it asked, and so does the finding.
std::string without(const std::string& peer, const std::string& detail) {
    const std::string prefix = peer + ": ";
    return detail.starts_with(prefix) ? detail.substr(prefix.size()) : detail;
}

std::string names(const std::set<std::string>& all) {
    std::string text;
    for (const std::string& name : all)
        text += (text.empty() ? "" : ", ") + name;
    return text;
}

void judge_endpoint(std::vector<finding>& found, const config::settings& settings, const endpoint_seen& endpoint,
                    bool others_answer) {
    const std::string about = "etcd " + endpoint.name;
    if (endpoint.failed) {
        const bool answered = endpoint.failed->kind == etcd_http::errc::denied ||
                              endpoint.failed->kind == etcd_http::errc::unauthorised ||
                              endpoint.failed->kind == etcd_http::errc::unusable;
        found.push_back({others_answer || answered ? severity::wrong : severity::silent, about,
                         without(about, endpoint.failed->detail),
                         others_answer
                             ? "The agent goes on with the other endpoints; there is one less to lose."
                             : "An agent that starts now knows no member and leaves the slots to HAProxy's own checks.",
                         mend_of_endpoint(endpoint.failed->kind)});
        return;
    }
    std::string read;
    for (std::size_t i = 0; i != endpoint.clusters.size(); ++i) {
        const auto& view = endpoint.clusters[i].view;
        read += fmt::format("{}{} member{} of {}, {}", i == 0 ? "" : "; ", view.members.size(),
                            view.members.size() == 1 ? "" : "s", settings.clusters[i].scope,
                            view.leader ? "leader " + view.leader->name : "no leader");
    }
    found.push_back({severity::well, about, read});
}

void judge_cluster(std::vector<finding>& found, const config::cluster_settings& cluster,
                   const etcd_http::cluster_view& view) {
    const std::string about = "cluster " + cluster.scope;
    const std::string prefix = config::key_prefix(cluster);
    if (view.members.empty()) {
        found.push_back({severity::wrong, about, fmt::format("etcd has no member under {}members/", prefix),
                         "No slot gets an address: nobody is routed anywhere.",
                         "pointsman.yml: scope, namespace (and group) as in patroni.yml; `etcdctl get --prefix "
                         "--keys-only /` lists what is there"});
        return;
    }
    if (!view.leader)
        found.push_back({severity::warning, about, fmt::format("there is no {}leader", prefix),
                         "The primary pool has no usable slot, its new connections wait until a leader is elected.",
                         "patronictl list"});
    const bool by_proxy_url = std::any_of(cluster.pools.begin(), cluster.pools.end(),
                                          [](const config::pool_settings& p) { return p.use_proxy_url; });
    const bool by_connect_url = !std::all_of(cluster.pools.begin(), cluster.pools.end(),
                                             [](const config::pool_settings& p) { return p.use_proxy_url; });
    std::set<std::string> no_connect, no_proxy, no_rest;
    for (const auto& [name, record] : view.members) {
        if (by_connect_url && !record.connect)
            no_connect.insert(name);
        if (by_proxy_url && !record.proxy)
            no_proxy.insert(name);
        if (!record.rest)
            no_rest.insert(name);
    }
    if (!no_connect.empty())
        found.push_back({severity::wrong, about, "no usable conn_url: " + names(no_connect), "It gets no slot.",
                         "patroni.yml: postgresql.connect_address: HOST:PORT"});
    if (!no_proxy.empty())
        found.push_back({severity::wrong, about, "no usable proxy_url: " + names(no_proxy),
                         "It gets no slot in the pools with `address: proxy_url`.",
                         "patroni.yml: postgresql.proxy_address: HOST:PORT"});
    if (!no_rest.empty())
        found.push_back({severity::wrong, about, "no usable api_url: " + names(no_rest),
                         "It cannot be probed and is not served.", "patroni.yml: restapi.connect_address: HOST:PORT"});
    for (const etcd_http::refusal& refused : view.refusals)
        found.push_back({severity::warning, about,
                         fmt::format("{}: {}", refused.member.empty() ? "a key" : refused.member, refused.reason),
                         "It is not used."});
}

std::string_view label(severity how) {
    switch (how) {
        case severity::well: return "ok   ";
        case severity::note: return "note ";
        case severity::warning: return "warn ";
        case severity::wrong:
        case severity::silent: return "WRONG";
    }
    return "?";
}

std::string counted(std::ptrdiff_t number, std::string_view one, std::string_view many) {
    return fmt::format("{} {}", number, number == 1 ? one : many);
}

} // namespace

const etcd_http::cluster_view* view_of(std::span<const endpoint_seen> endpoints, std::size_t index) {
    for (const endpoint_seen& endpoint : endpoints) {
        if (index < endpoint.clusters.size())
            return &endpoint.clusters[index].view;
    }
    return nullptr;
}

std::vector<finding> judge_etcd(const config::settings& settings, std::span<const endpoint_seen> endpoints) {
    std::vector<finding> found;
    const bool any =
        std::any_of(endpoints.begin(), endpoints.end(), [](const endpoint_seen& e) { return !e.failed.has_value(); });
    std::set<std::uint64_t> stores;
    for (const endpoint_seen& endpoint : endpoints) {
        judge_endpoint(found, settings, endpoint, any);
        for (const auto& keys : endpoint.clusters)
            stores.insert(keys.store);
    }
    if (stores.size() > 1)
        found.push_back({severity::wrong, "etcd", "the endpoints belong to different etcd clusters",
                         "The agent follows the first that answers; after a failure of that one, another truth.",
                         "pointsman.yml: etcd.endpoints must name the members of one cluster: etcdctl member list"});
    for (std::size_t i = 0; i != settings.clusters.size(); ++i) {
        if (const auto* view = view_of(endpoints, i))
            judge_cluster(found, settings.clusters[i], *view);
    }
    return found;
}

std::vector<finding> judge_members(std::span<const member_seen> members) {
    std::vector<finding> found;
    for (const member_seen& member : members) {
        const std::string about = fmt::format("member {} of {}, {}", member.name, member.scope, member.where);
        const auto wrong = [&found, &about](std::string what, std::string mend) {
            found.push_back({severity::wrong, about, std::move(what),
                             "What cannot be asked is not served: its slots stay out, or go out with its next fault.",
                             std::move(mend)});
        };
        if (!member.trouble.empty()) {
            wrong(member.trouble, "patroni.yml: restapi.connect_address must be reachable from this host");
            continue;
        }
        std::string said;
        std::optional<rest_body> body;
        bool well = true;
        for (const auto& [path, answer] : member.answers) {
            if (!answer.status) {
                wrong(fmt::format("{}: {}", path, without(member.where, answer.detail)),
                      "patroni.yml: restapi.listen and restapi.connect_address; a firewall; for https: "
                      "clusters.probe.tls "
                      "in pointsman.yml");
                well = false;
                break; // another path of it would say the same
            }
            if (!answer.body || (*answer.status != 200 && *answer.status != 503)) {
                wrong(fmt::format("{}: answers {}, which Patroni's REST API does not", path, *answer.status),
                      "patroni.yml: restapi.connect_address must name Patroni's own port; pointsman.yml: check must be "
                      "one "
                      "of Patroni's health paths");
                well = false;
                continue;
            }
            said += fmt::format("{}{} {}", said.empty() ? "" : ", ", path, *answer.status);
            body = answer.body;
        }
        if (well && body)
            found.push_back({severity::well, about, fmt::format("{}; {}, {}", said, body->state, body->role)});
    }
    return found;
}

std::string render(std::span<const finding> findings) {
    const auto safe = [](std::string_view text) { return terminal_text(text, longest_line).text; };
    std::string text;
    for (const finding& f : findings) {
        text += fmt::format("{} {}: {}\n", label(f.how), safe(f.about), safe(f.what));
        if (!f.meaning.empty())
            text += fmt::format("        {}\n", safe(f.meaning));
        for (std::string_view rest = f.mend; !rest.empty();) {
            const auto line = rest.substr(0, rest.find('\n'));
            text += fmt::format("        mend  {}\n", safe(line));
            rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        }
    }
    const auto count = [findings](severity how) { return std::ranges::count(findings, how, &finding::how); };
    const auto wrong = count(severity::wrong) + count(severity::silent);
    const auto warnings = count(severity::warning);
    const std::string warned = warnings == 0 ? "" : fmt::format(", {}", counted(warnings, "warning", "warnings"));
    if (wrong == 0)
        return text + fmt::format("nothing is wrong: {} well{}\n",
                                  counted(count(severity::well), "part is", "parts are"), warned);
    return text + fmt::format("{} wrong{}\n", counted(wrong, "thing is", "things are"), warned);
}

int exit_status(std::span<const finding> findings) {
    constexpr int found_wrong = 1;
    constexpr int no_answer = 3;
    const auto any = [findings](severity how) { return std::ranges::count(findings, how, &finding::how) != 0; };
    return any(severity::silent) ? no_answer : any(severity::wrong) ? found_wrong : 0;
}

} // namespace pointsman::agent
