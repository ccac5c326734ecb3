#include "agent/haproxy_config.hpp"
#include "config/load.hpp"

#include "../support/scratch_dir.hpp"

#include <catch2/catch.hpp>

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

using namespace pointsman;
using namespace pointsman::test;

namespace {

const std::filesystem::path deploy = std::filesystem::path(__FILE__).parent_path() / "../../deploy";

config::pool_settings pool(std::string backend, config::pool_role role, std::string check, std::uint16_t port) {
    config::pool_settings made;
    made.backend = std::move(backend);
    made.role = role;
    made.check = std::move(check);
    made.bind = config::listen_address{"", port};
    return made;
}

config::settings example() {
    return config::load_file(deploy / "pointsman.yml");
}

bool has_line(const std::string& text, const std::string& line) {
    return text.find("\n    " + line + "\n") != std::string::npos || text.find('\n' + line + '\n') != std::string::npos;
}

// What `haproxy -c` has to say against the configuration; empty: nothing.
std::string complaints(const scratch_dir& dir, const config::settings& settings, const std::string& hold_lua) {
    const auto file = dir.path("haproxy.cfg");
    write_text(file, agent::haproxy_config(settings, hold_lua));
    const auto command = "/usr/sbin/haproxy -c -f " + file + " 2>&1";
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> output(::popen(command.c_str(), "r"), ::pclose);
    std::string said;
    std::array<char, 4096> part{};
    while (std::fgets(part.data(), part.size(), output.get()) != nullptr)
        said += part.data();
    return said == "Configuration file is valid\n" ? "" : said;
}

} // namespace

TEST_CASE("haproxy config: the example in deploy/ is what is printed for the example configuration",
          "[haproxy_config]") {
    CHECK(read_text(deploy / "haproxy.cfg") == agent::haproxy_config(example()));
}

TEST_CASE("haproxy config: a primary pool is as the design wants it", "[haproxy_config]") {
    const auto text = agent::haproxy_config(example());

    for (const char* line : {
             "stats socket /run/haproxy/admin.sock mode 660 group haproxy level admin expose-fd listeners",
             "server-state-file /var/lib/pointsman/haproxy.state",
             "lua-load /etc/pointsman/hold.lua",
             "load-server-state-from-file global",
             "listen primary",
             "bind :5000",
             "server hold 127.0.0.1:1 backup maxconn 2000000",
             "retries 40",
             "option redispatch 1",
             "tcp-request inspect-delay 40s",
             "tcp-request content lua.hold primary if { be_conn_free(primary) ge 1000000 }",
             "use_backend primary_anew if { stopping } { be_conn_free(primary) ge 1000000 }",
             "backend primary_anew",
             "server self 127.0.0.1:5000",
             "option httpchk HEAD /master",
             "http-check expect status 200",
             "default-server inter 2s fall 3 rise 2 on-marked-down shutdown-sessions",
             "server-template pg 1-8 slot.invalid:1 init-addr last,127.0.0.1 check port 8008 disabled",
         }) {
        CAPTURE(line);
        CHECK(has_line(text, line));
    }
}

TEST_CASE("haproxy config: HAProxy's check of a replica pool does not contradict the agent", "[haproxy_config]") {
    auto settings = example();
    auto& replicas = settings.clusters[0].pools[1];
    CHECK(has_line(agent::haproxy_config(settings), "option httpchk HEAD /read-only"));

    replicas.fallback_primary = false;
    CHECK(has_line(agent::haproxy_config(settings), "option httpchk HEAD /replica"));

    // Lag is a reason to drain, and HAProxy would cut.
    replicas.check = "/replica?lag=16MB";
    CHECK(has_line(agent::haproxy_config(settings), "option httpchk HEAD /replica"));
}

TEST_CASE("haproxy config: without a state file nothing speaks of one", "[haproxy_config]") {
    auto settings = example();
    settings.haproxy.state_file.clear();

    CHECK(agent::haproxy_config(settings).find("state-f") == std::string::npos);
}

TEST_CASE("haproxy config: a HAProxy without Lua holds connections in retries", "[haproxy_config]") {
    const auto text = agent::haproxy_config(example(), "");

    CHECK(text.find("lua") == std::string::npos);
    CHECK(text.find("inspect-delay") == std::string::npos);
    CHECK(has_line(text, "server hold 127.0.0.1:1 backup maxconn 2000000"));
    CHECK(has_line(text, "retries 40"));
    CHECK(has_line(text, "option redispatch 1"));
}

TEST_CASE("haproxy config: the socket may be TCP", "[haproxy_config]") {
    auto settings = example();
    settings.haproxy.socket = {"", "127.0.0.1", 9999};
    CHECK(has_line(agent::haproxy_config(settings), "stats socket 127.0.0.1:9999 level admin"));

    settings.haproxy.socket.host = "::1";
    CHECK(has_line(agent::haproxy_config(settings), "stats socket [::1]:9999 level admin"));
}

TEST_CASE("haproxy config: a pool without bind is a backend", "[haproxy_config]") {
    auto settings = example();
    settings.clusters[0].pools[0].bind.reset();

    const auto text = agent::haproxy_config(settings);

    CHECK(has_line(text, "backend primary"));
    CHECK_FALSE(has_line(text, "listen primary"));
    CHECK_FALSE(has_line(text, "bind :5000"));
    CHECK(text.find("primary_anew") == std::string::npos); // only the frontend that leads here knows the port
    CHECK(has_line(text, "tcp-request content lua.hold primary if { be_conn_free(primary) ge 1000000 }"));
}

TEST_CASE("haproxy config: addresses, weights and every cluster's pools are printed", "[haproxy_config]") {
    auto settings = example();
    settings.clusters[0].pools[0].bind = config::listen_address{"fd00::1", 5000};
    settings.clusters[0].pools[1].weight = config::weight_settings{100, {}};
    auto& other = settings.clusters.emplace_back();
    other.pools.push_back(pool("other", config::pool_role::primary, "/primary", 6000));

    const auto text = agent::haproxy_config(settings);

    CHECK(has_line(text, "bind [fd00::1]:5000"));
    CHECK(has_line(text, "server self [fd00::1]:5000"));
    CHECK(has_line(
        text, "server-template pg 1-8 slot.invalid:1 init-addr last,127.0.0.1 check port 8008 weight 100 disabled"));
    CHECK(has_line(text, "listen other"));
    CHECK(has_line(text, "option httpchk HEAD /primary"));
}

TEST_CASE("haproxy config: REST APIs with TLS are checked with TLS", "[haproxy_config]") {
    auto settings = example();
    settings.clusters[0].probe.tls.ca_file = "/etc/pointsman/patroni ca.pem";

    CHECK(has_line(agent::haproxy_config(settings),
                   "server-template pg 1-8 slot.invalid:1 init-addr last,127.0.0.1 check port 8008 "
                   "check-ssl verify required ca-file /etc/pointsman/patroni\\ ca.pem disabled"));
    CHECK(agent::haproxy_config(settings).find("verify_client") == std::string::npos);

    settings.clusters[0].probe.tls.cert_file = "/etc/pointsman/client.pem";
    CHECK(agent::haproxy_config(settings).find("verify_client") != std::string::npos);
}

TEST_CASE("haproxy config: HAProxy takes it without a warning", "[haproxy_config]") {
    const scratch_dir dir;
    auto settings = example();
    settings.haproxy.socket.path = "/tmp/pointsman test #1.sock";
    settings.haproxy.state_file = dir.path("haproxy.state");
    write_text(settings.haproxy.state_file, "1\n");
    auto& pools = settings.clusters[0].pools;

    SECTION("the example") {}
    SECTION("a master socket, TCP, no state file") {
        settings.haproxy.master_socket = "/run/haproxy-master.sock";
        settings.haproxy.socket = {"", "127.0.31.4", 9999};
        settings.haproxy.state_file.clear();
    }
    SECTION("weights, another check, backends") {
        pools[1].weight = config::weight_settings{100, {}};
        pools[1].check = "/replica?lag=16MB";
        pools[1].fallback_primary = false;
        for (auto& p : pools)
            p.bind.reset();
    }
    SECTION("TLS") {
        const std::string ca = "/etc/ssl/certs/ca-certificates.crt";
        settings.clusters[0].probe.tls = {ca, ca, ca};
    }

    CHECK(complaints(dir, settings, (deploy / "hold.lua").string()) == "");
    CHECK(complaints(dir, settings, "") == "");
}
