#include "agent/preflight.hpp"
#include "agent/preflight_haproxy.hpp"

#include "agent/haproxy_config.hpp"
#include "config/load.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

using namespace pointsman;
using namespace pointsman::agent;

namespace {

config::settings example() {
    return config::load_file(std::filesystem::path(__FILE__).parent_path() / "../../deploy/pointsman.yml");
}

etcd_http::cluster_view three_members() {
    etcd_http::cluster_view view;
    view.leader = {"node1", 7};
    for (const char* name : {"node1", "node2", "node3"}) {
        auto& member = view.members[name];
        member.name = name;
        member.connect = {std::string(name) + ".example.org", 5432};
        member.rest = {false, {std::string(name) + ".example.org", 8008}};
    }
    return view;
}

// A HAProxy that runs with what haproxy-config prints, and what etcd says beside it.
struct world {
    config::settings settings = example();
    etcd_http::cluster_view view = three_members();
    std::string file = haproxy_config(settings);
    haproxy_seen haproxy;

    world() {
        haproxy.process.version = "2.8.5";
        haproxy.process.major = 2;
        haproxy.process.minor = 8;
        haproxy.level = "admin";
        haproxy.files = {"/etc/haproxy/haproxy.cfg"};
        haproxy.state_file_there = true;
        for (const char* backend : {"primary", "replicas"}) {
            haproxy.backends[backend] = {"tcp", "roundrobin", {{true, 2000000}}};
            for (int i = 1; i <= 8; ++i)
                haproxy.servers.push_back({*runtime_api::slot_id::parse(backend, "pg" + std::to_string(i)), true, true,
                                           true, true, 8008, false});
        }
    }

    world& replace(const std::string& what, const std::string& by) {
        REQUIRE(file.find(what) != std::string::npos);
        for (auto at = file.find(what); at != std::string::npos; at = file.find(what, at + by.size()))
            file.replace(at, what.size(), by);
        return *this;
    }

    std::vector<finding> judge() {
        if (haproxy.unread.empty())
            read_haproxy_cfg(haproxy.sections, file, {});
        const std::vector<const etcd_http::cluster_view*> views(settings.clusters.size(), &view);
        return judge_haproxy(settings, haproxy, views);
    }
};

// What is found at least as bad as a warning: "WRONG backend primary: no slot".
std::vector<std::string> trouble(const std::vector<finding>& found) {
    std::vector<std::string> lines;
    for (const finding& f : found) {
        if (f.how >= severity::warning) {
            CHECK_FALSE(f.meaning.empty());
            CHECK_FALSE(f.mend.empty());
            lines.push_back((f.how == severity::warning ? "warn " : "WRONG ") + f.about + ": " + f.what);
        }
    }
    return lines;
}

using lines = std::vector<std::string>;

} // namespace

TEST_CASE("preflight: nothing is wrong with what haproxy-config prints", "[preflight]") {
    world w;

    SECTION("the example") {}
    SECTION("without Lua") {
        w.file = haproxy_config(w.settings, "");
    }
    SECTION("weights and other checks") {
        auto& pool = w.settings.clusters[0].pools[1];
        pool.weight = config::weight_settings{100, {}};
        pool.fallback_primary = false;
        pool.check = "/replica?lag=16MB";
        w.file = haproxy_config(w.settings);
    }
    SECTION("a frontend of its own") {
        for (auto& pool : w.settings.clusters[0].pools)
            pool.bind.reset();
        w.file = haproxy_config(w.settings);
    }
    SECTION("REST APIs with TLS") {
        w.settings.clusters[0].probe.tls.ca_file = "/etc/pointsman/ca.pem";
        for (auto& [name, member] : w.view.members)
            member.rest->tls = true;
        w.file = haproxy_config(w.settings);
    }
    SECTION("a path with a blank in it") {
        w.settings.haproxy.state_file = "/var/lib/pointsman #1/haproxy.state";
        w.file = haproxy_config(w.settings);
    }

    CHECK(trouble(w.judge()) == lines{});
}

TEST_CASE("preflight: a mistake in haproxy.cfg is named", "[preflight]") {
    const auto [what, by, found] = GENERATE(table<std::string, std::string, std::string>({
        {" expose-fd listeners\n", "\n", "WRONG haproxy.cfg, global: no stats socket with `expose-fd listeners`"},
        {"    server-state-file", "    # server-state-file", "WRONG haproxy.cfg, global: no `server-state-file`"},
        {"global\n    #", "global\n    zero-warning\n    #",
         "WRONG haproxy.cfg, global: `zero-warning` beside a state file"},
        {"load-server-state-from-file global", "load-server-state-from-file none",
         "WRONG backend primary, replicas: no `load-server-state-from-file global`"},
        {"httpchk HEAD /read-only", "httpchk HEAD /replica",
         "WRONG backend replicas: HAProxy checks /replica, not /read-only"},
        {"option httpchk HEAD /master", "option tcp-check", "WRONG backend primary: no `option httpchk`"},
        {"retries 40", "retries 5", "WRONG backend primary, replicas: `retries 5`"},
        {"option redispatch 1", "no option redispatch", "WRONG backend primary, replicas: no `option redispatch 1`"},
        {" on-marked-down shutdown-sessions", "",
         "WRONG backend primary, replicas: slots without `on-marked-down shutdown-sessions`"},
        {"rise 2", "rise 1", "WRONG backend primary, replicas: slots with `rise 1`"},
        {"init-addr last,127.0.0.1", "init-addr 127.0.0.1",
         "WRONG backend primary, replicas: slots with an `init-addr` without `last`"},
        {"8008 disabled", "8008 resolvers dns disabled", "WRONG backend primary, replicas: slots with `resolvers`: pg"},
        {"8008 disabled", "8008 init-state down disabled", "WRONG backend primary, replicas: slots with `init-state`"},
        {"8008 disabled", "8008 check-ssl disabled",
         "WRONG backend primary, replicas: the REST APIs speak http, and the slots have `check-ssl`"},
        {"check port 8008", "check", "WRONG backend primary, replicas: slots without `check port`"},
        {"lua.hold replicas", "lua.hold primary", "WRONG backend replicas: `lua.hold primary` waits for another pool"},
        {"    tcp-request content lua.hold replicas", "    # ",
         "WRONG backend replicas: no `tcp-request content lua.hold`"},
        {"inspect-delay 40s", "inspect-delay 5000",
         "WRONG backend primary, replicas: no `tcp-request inspect-delay` of 40 s"},
        {"if { stopping }", "if FALSE", "warn backend primary, replicas: no `use_backend ... if { stopping }`"},
        {"timeout client 24d", "timeout client 50s", "warn backend primary, replicas: `timeout client 50s`"},
    }));
    CAPTURE(by);
    world w;

    CHECK(trouble(w.replace(what, by).judge()) == lines{found});
}

TEST_CASE("preflight: what HAProxy's socket tells is wrong whatever its files say", "[preflight]") {
    world w;
    lines found;

    SECTION("level") {
        w.haproxy.level = "user";
        found = {"WRONG haproxy.cfg, global: the stats socket has level user, not admin"};
    }
    SECTION("no backend") {
        w.haproxy.backends.erase("replicas");
        found = {"WRONG backend replicas: HAProxy has no such backend"};
    }
    SECTION("no slots") {
        std::erase_if(w.haproxy.servers, [](const auto& s) { return s.id.backend() == "replicas"; });
        found = {"WRONG backend replicas: no slot"};
    }
    SECTION("mode") {
        w.haproxy.backends["replicas"].mode = "http";
        found = {"WRONG backend replicas: mode is http, not tcp"};
    }
    SECTION("one slot of another form") {
        w.haproxy.servers[2].addressable = false;
        w.haproxy.servers[3].named = false;
        w.haproxy.servers[4].disabled = false;
        w.haproxy.servers[5].checked = false;
        w.haproxy.servers[6].own_check_address = true;
        w.haproxy.servers[7].check_port = 8009;
        found = {"WRONG backend primary: slots without an address (`init-addr none`): pg3",
                 "WRONG backend primary: slots declared with a literal address: pg4",
                 "WRONG backend primary: slots not declared `disabled`: pg5",
                 "WRONG backend primary: slots without `check`: pg6",
                 "WRONG backend primary: slots with a check address of their own (`addr`): pg7",
                 "WRONG backend primary: `check port 8009` is not the port of the REST API of node1, node2, node3"};
    }
    SECTION("slots") {
        for (int i = 4; i <= 8; ++i)
            w.view.members["node" + std::to_string(i)] = w.view.members["node1"];
        found = {"warn backend primary, replicas: 8 slots for 8 members: none is free"};
    }
    SECTION("too few slots") {
        for (int i = 4; i <= 9; ++i)
            w.view.members["node" + std::to_string(i)] = w.view.members["node1"];
        found = {"WRONG backend primary, replicas: 8 slots for 9 members"};
    }
    SECTION("hold") {
        w.haproxy.backends["primary"].held.reset();
        w.haproxy.backends["replicas"].held = {{false, 2000000}};
        found = {"WRONG backend primary: no server `hold`", "WRONG backend replicas: the server `hold` is no backup"};
    }
    SECTION("hold without a million connections") {
        w.haproxy.backends["primary"].held->maxconn = 0;
        found = {"WRONG backend primary: the server `hold` has no `maxconn 2000000`"};
    }
    SECTION("master socket") {
        w.settings.haproxy.master_socket = "/run/haproxy-master.sock";
        w.haproxy.master_failed = {runtime_api::errc::unreachable, "nobody there"};
        found = {"WRONG haproxy.master_socket: nobody there"};
    }
    SECTION("state file") {
        w.haproxy.state_trouble = "the folder / cannot be written";
        found = {"WRONG haproxy.state_file: the folder / cannot be written"};
    }
    SECTION("a state file that nobody keeps") {
        w.settings.haproxy.state_file.clear();
        found = {
            "warn haproxy.state_file: not set",
            "WRONG haproxy.cfg, global: HAProxy restores its slots from /var/lib/pointsman/haproxy.state, which nobody "
            "keeps"};
    }
    SECTION("files that changed") {
        w.haproxy.changed = true;
        found = {"warn haproxy.cfg: changed after HAProxy was started"};
    }
    SECTION("files that cannot be read") {
        w.haproxy.unread = "/etc/haproxy/haproxy.cfg: Permission denied";
        found = {"warn haproxy.cfg: not checked: /etc/haproxy/haproxy.cfg: Permission denied"};
    }
    SECTION("other files") {
        w.file = "global\n stats socket /run/haproxy/admin.sock level admin expose-fd listeners\n"
                 " server-state-file /var/lib/pointsman/haproxy.state\n";
        found = {"warn backend primary, replicas: not in the configuration files that were read"};
    }

    CHECK(trouble(w.judge()) == found);
}

TEST_CASE("preflight: weights need a dynamic balance", "[preflight]") {
    const auto [algorithm, hash, weighs] = GENERATE(table<std::string, std::string, bool>({
        {"roundrobin", "", true},
        {"leastconn", "", true},
        {"random", "", true},
        {"static-rr", "", false},
        {"first", "", false},
        {"source", "", false},
        {"source", "    hash-type map-based\n", false},
        {"source", "    hash-type consistent\n", true},
        {"hash", "    hash-type consistent sdbm avalanche\n", true},
    }));
    CAPTURE(algorithm, hash);
    world w;
    w.settings.clusters[0].pools[1].weight = config::weight_settings{100, {}};
    w.haproxy.backends["replicas"].algorithm = algorithm;
    w.replace("listen replicas\n", "listen replicas\n" + hash);

    CHECK(trouble(w.judge()).size() == (weighs ? 0 : 1));
}

TEST_CASE("preflight: known bugs are notes", "[preflight]") {
    const auto [version, major, minor, notes] = GENERATE(table<std::string, unsigned, unsigned, std::ptrdiff_t>({
        {"2.4.0", 2, 4, 1},
        {"2.6.12-1+deb12u4", 2, 6, 1},
        {"2.6.13", 2, 6, 0},
        {"2.8.0", 2, 8, 1},
        {"2.8.1", 2, 8, 0},
        {"3.0.0", 3, 0, 1},
        {"3.4.0", 3, 4, 1},
        {"3.5-dev5-0bcd3f8", 3, 5, 1},
    }));
    CAPTURE(version);
    world w;
    w.haproxy.process.version = version;
    w.haproxy.process.major = major;
    w.haproxy.process.minor = minor;
    const auto found = w.judge();

    CHECK(trouble(found) == lines{});
    CHECK(std::ranges::count(found, severity::note, &finding::how) == notes);
}

TEST_CASE("preflight: an HAProxy that does not answer is the end of it", "[preflight]") {
    world w;
    w.haproxy.failed = {runtime_api::errc::unreachable, "haproxy /run/haproxy/admin.sock: no such file"};
    const auto found = w.judge();

    CHECK(found.size() == 1);
    CHECK(exit_status(found) == 3);
}

TEST_CASE("preflight: etcd is silent only when no endpoint answers", "[preflight]") {
    const auto settings = example();
    const etcd_http::failure refused{etcd_http::errc::refused, "etcd 10.0.0.1:2379: connecting: refused"};
    const etcd_http::failure denied{etcd_http::errc::denied, "etcd 10.0.0.1:2379: permission denied"};
    const endpoint_seen good{"10.0.0.2:2379", std::nullopt, {{1, three_members()}}};

    SECTION("one of two") {
        const auto found = judge_etcd(settings, std::vector{endpoint_seen{"10.0.0.1:2379", refused}, good});
        CHECK(trouble(found) == lines{"WRONG etcd 10.0.0.1:2379: connecting: refused"});
        CHECK(exit_status(found) == 1);
    }
    SECTION("none") {
        CHECK(exit_status(judge_etcd(settings, std::vector{endpoint_seen{"10.0.0.1:2379", refused}})) == 3);
    }
    SECTION("a wrong password is an answer") {
        const auto found = judge_etcd(settings, std::vector{endpoint_seen{"10.0.0.1:2379", denied}});
        CHECK(exit_status(found) == 1);
        CHECK(found[0].mend.find("password_file") != std::string::npos);
    }
    SECTION("two stores") {
        auto other = good;
        other.clusters[0].store = 2;
        CHECK(trouble(judge_etcd(settings, std::vector{good, other})) ==
              lines{"WRONG etcd: the endpoints belong to different etcd clusters"});
    }
}

TEST_CASE("preflight: a cluster without members, and members without addresses", "[preflight]") {
    const auto settings = example();
    auto view = three_members();
    lines found;

    SECTION("none") {
        view.members.clear();
        found = {"WRONG cluster demo: etcd has no member under /service/demo/members/"};
    }
    SECTION("addresses") {
        view.members["node2"].connect.reset();
        view.members["node3"].rest.reset();
        found = {"WRONG cluster demo: no usable conn_url: node2", "WRONG cluster demo: no usable api_url: node3"};
    }
    SECTION("no leader") {
        view.leader.reset();
        found = {"warn cluster demo: there is no /service/demo/leader"};
    }

    CHECK(trouble(judge_etcd(settings, std::vector{endpoint_seen{"10.0.0.2:2379", std::nullopt, {{1, view}}}})) ==
          found);
}

TEST_CASE("preflight: a member's answers are one line", "[preflight]") {
    member_seen node{"demo", "node1", "10.0.0.1:8008", "", {}};
    outcome yes;
    yes.status = 200;
    yes.body = rest_body{"running", "master", {}, {}, {}};
    outcome no = yes;
    no.status = 503;
    node.answers = {{"/master", yes}, {"/replica", no}};
    lines found;
    SECTION("well") {
        CHECK(judge_members(std::vector{node}) ==
              std::vector<finding>{{severity::well, "member node1 of demo, 10.0.0.1:8008",
                                    "/master 200, /replica 503; running, master", "", ""}});
    }
    SECTION("silent") {
        node.answers[0].second = {};
        node.answers[0].second.detail = "10.0.0.1:8008: reading: no answer in time";
        found = {"WRONG member node1 of demo, 10.0.0.1:8008: /master: reading: no answer in time"};
    }
    SECTION("something else") {
        node.answers[1].second.body.reset();
        found = {"WRONG member node1 of demo, 10.0.0.1:8008: /replica: answers 503, which Patroni's REST API does not"};
    }
    SECTION("a path that there is not") {
        node.answers[1].second.status = 404;
        found = {"WRONG member node1 of demo, 10.0.0.1:8008: /replica: answers 404, which Patroni's REST API does not"};
    }
    SECTION("a name that does not resolve") {
        node.trouble = "node1: no such host";
        found = {"WRONG member node1 of demo, 10.0.0.1:8008: node1: no such host"};
    }

    CHECK(trouble(judge_members(std::vector{node})) == found);
}

TEST_CASE("preflight: what is printed is fit for a terminal, and ends with the sum", "[preflight]") {
    const std::vector<finding> found = {{severity::well, "etcd", "3 members"},
                                        {severity::wrong, "member \x1b[2J\nok", "no", "It is out.", "a\nb"},
                                        {severity::warning, "backend primary", "none is free", "So.", ""}};

    CHECK(render(found) == "ok    etcd: 3 members\n"
                           "WRONG member \\x1b[2J\\x0aok: no\n"
                           "        It is out.\n"
                           "        mend  a\n"
                           "        mend  b\n"
                           "warn  backend primary: none is free\n"
                           "        So.\n"
                           "1 thing is wrong, 1 warning\n");
    CHECK(exit_status(found) == 1);
    CHECK(render(std::vector<finding>{found[0]}) == "ok    etcd: 3 members\nnothing is wrong: 1 part is well\n");
    CHECK(exit_status(std::vector<finding>{found[0], found[2]}) == 0);
}
