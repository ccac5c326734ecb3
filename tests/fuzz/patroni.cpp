// Patroni's keys and values, and the cluster that the agent knows by them. The input is read twice: as lines `key
// value` under the cluster's prefix, and as a whole as the value and as the name of a member, for what stands on no
// line.
#include "tests/fuzz/laws.hpp"

#include "agent/cluster.hpp"
#include "etcd_http/patroni.hpp"
#include "runtime_api/address.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <string>

using namespace pointsman;
using namespace pointsman::etcd_http;
using namespace pointsman::fuzz;
using runtime_api::address;

namespace {

const std::string prefix = "/service/demo/";

using keys = std::map<std::string, key_value>;

void check_place(const host_port& where) {
    const bool v6 = where.host.find(':') != std::string::npos;
    const char* allowed =
        v6 ? "0123456789abcdefABCDEF:." : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_";
    must(!where.host.empty() && where.host.size() <= 253 && where.host.find_first_not_of(allowed) == std::string::npos,
         "a host has the characters of a host");
    must(where.port != 0, "a port is 1 to 65535");
    // What is unspecified is no address for HAProxy either, in any spelling.
    must(!v6 || address::parse(where.host, where.port), "an IPv6 address is one that HAProxy could be given");
}

void check_member(const std::string& name, const member_record& member) {
    must(name == member.name && !name.empty() && name.size() <= 255 && is_utf8(name) &&
             name.find('/') == std::string::npos,
         "a member has a name that Patroni uses");
    for (const auto& place : {member.connect, member.proxy})
        if (place)
            check_place(*place);
    if (member.rest)
        check_place(member.rest->where);
}

// Its URLs in the form that Patroni writes today.
std::string written(const member_record& member) {
    const auto place = [](const host_port& p) {
        const bool v6 = p.host.find(':') != std::string::npos;
        return (v6 ? '[' + p.host + ']' : p.host) + ':' + std::to_string(p.port);
    };
    std::string out = "{";
    if (member.connect)
        out += R"("conn_url":"postgres://)" + place(*member.connect) + R"(/postgres",)";
    if (member.proxy)
        out += R"("proxy_url":"postgresql://u:p@)" + place(*member.proxy) + R"(",)";
    if (member.rest)
        out += std::string(R"("api_url":")") + (member.rest->tls ? "https://" : "http://") + place(member.rest->where) +
               R"(/patroni",)";
    return out + R"("x":0})";
}

// What the agent makes of it: a scheduled switchover has a time that its clock can hold.
void check_taken(const cluster_view& view) {
    using namespace std::chrono;
    const agent::time_point now{hours(1)};
    agent::cluster c;
    const auto change = agent::take_view(c, view, now, system_clock::time_point(seconds(1'795'387'216)));
    must(change.probe.size() == view.members.size() && c.members.size() == view.members.size(),
         "every member is probed when it is new");
    must(c.asked.has_value() == view.switchover.has_value(), "a switchover that was asked for is known");
    if (c.asked)
        must(c.asked->starts >= now && c.asked->starts <= now + years(100), "a switchover starts now or later");
}

void check_view(const keys& all) {
    const cluster_view view = parse_cluster(all, prefix, 7);
    must(view == parse_cluster(all, prefix, 7), "the same keys give the same view");
    keys rewritten;
    for (const auto& [name, member] : view.members) {
        check_member(name, member);
        must(all.contains(prefix + "members/" + name), "a member has a key");
        rewritten[prefix + "members/" + name] = {written(member), 7};
    }
    for (const refusal& r : view.refusals) {
        must_be_printable(r.member);
        must_be_printable(r.reason);
    }
    check_taken(view);
    if (view.leader)
        must(!view.leader->name.empty() && is_utf8(view.leader->name), "a leader has a name");
    const cluster_view again = parse_cluster(rewritten, prefix, 7);
    must(again.refusals.empty() && again.members.size() == view.members.size(), "what was read can be written");
    for (const auto& [name, member] : again.members) {
        const member_record& before = view.members.at(name);
        must(member.connect == before.connect && member.proxy == before.proxy && member.rest == before.rest,
             "what was read is written and read again as it was");
    }
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto text = text_of(data, size);
    keys lines;
    for (std::string_view rest = text; !rest.empty();) {
        const std::string_view line = take_line(rest);
        const std::size_t space = std::min(line.find(' '), line.size());
        lines[prefix + std::string(line.substr(0, space))] = {
            std::string(line.substr(std::min(space + 1, line.size()))), static_cast<std::int64_t>(lines.size()) + 1};
    }
    check_view(lines);
    check_view({{prefix + "members/pg1", {std::string(text), 1}}, {prefix + "failover", {std::string(text), 2}}});
    check_view({{prefix + "members/" + std::string(text), {"{}", 1}}, {prefix + "leader", {std::string(text), 2}}});
    return 0;
}
