#include "config/load.hpp"

#include <catch2/catch.hpp>
#include <rapidcheck.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
using namespace pointsman::config;

namespace {

const std::string haproxy = "haproxy: {socket: /run/haproxy/admin.sock}\n";
const std::string etcd = "etcd: {endpoints: [http://127.0.0.1]}\n";
const std::string pools = "    pools: [{backend: primary, role: primary, check: /master}]\n";
const std::string clusters = "clusters:\n  - scope: demo\n" + pools;

// Every key that there is.
const std::string full = R"(haproxy:
  socket: /run/haproxy/admin.sock
  master_socket: /run/haproxy-master.sock
  state_file: /var/lib/pointsman/haproxy.state
etcd:
  endpoints: ["http://127.0.20.100:2379", "https://[fd00::1]/", https://etcd3.example.org:4001]
  username: pointsman
  password_file: /etc/pointsman/etcd.password
  tls: {ca_file: /etc/e/ca.pem, cert_file: /etc/e/cert.pem, key_file: /etc/e/key.pem}
  poll_interval: 750ms
clusters:
  - scope: demo7
    namespace: /service/
    probe: {interval: 500ms, timeout: 2s, tls: {ca_file: /etc/p/ca.pem}}
    pools:
      - {backend: primary, role: primary, check: /master, bind: ":5000"}
      - backend: replicas
        role: replica
        check: /replica?lag=16MB&tag_region=eu
        bind: "[::1]:5001"
        fallback: primary
        address: proxy_url
        weight: {base: 100, lag: {from: 1MiB, to: 64MiB}}
  - scope: citus
    namespace: postgres//prod
    group: 0
    pools:
      - {backend: coordinator, role: primary, check: /master, bind: 127.0.0.1:5002, address: conn_url}
listen: "[::1]:9127"
log: {level: warning, format: json}
)";

// What is right, as errors say it.
const std::string a_socket =
    "; expected an absolute path of at most 107 bytes, or tcp://ADDRESS:PORT with a numeric address";
const std::string a_path = "; expected an absolute path";
const std::string an_endpoint = "; expected http://HOST:PORT or https://HOST:PORT";
const std::string a_poll_interval = "; expected a duration of 500ms to 10m, such as 750ms or 1s";
const std::string a_probe_duration = "; expected a duration of 50ms to 1m, such as 750ms or 1s";
const std::string a_scope = "; expected the scope as Patroni's configuration has it, without '/'";
const std::string a_group = "; expected a Citus group, a number such as 0 or 12";
const std::string a_backend = "; expected a backend's name: letters, digits and _ . : -";
const std::string a_check =
    "; expected a path of Patroni's REST API in printable ASCII without spaces, such as /replica?lag=16MB";
const std::string a_bind =
    "; expected ADDRESS:PORT with a numeric address, such as :5000, 127.0.0.1:5000 or \"[::1]:5000\"";
const std::string a_listen = "; expected off, or ADDRESS:PORT with a numeric address, such as 127.0.0.1:9127";
const std::string a_size = "; expected a size in B, kB (1000), KiB (1024), MiB or GiB, such as 16MiB";
const std::string sections = "; expected a mapping with haproxy, etcd, clusters, listen and log";
const std::string known_sections = "; known here: haproxy, etcd, clusters, listen, log";

// The beginnings of wrong lines.
const std::string pool = "clusters: [{scope: a, pools: [{backend: b, ";
const std::string endpoint_a = "etcd: {endpoints: [http://a], ";

std::string error_of(std::string_view text) {
    try {
        load_text(text, "f");
    } catch (const config_error& error) {
        return error.what();
    }
    return "(no error)";
}

std::string read(const std::filesystem::path& path) {
    std::ostringstream out;
    out << std::ifstream(path).rdbuf();
    return out.str();
}

} // namespace

TEST_CASE("config: every key of a full file arrives in the settings", "[config]") {
    const settings s = load_text(full, "f");

    CHECK(s.haproxy.socket.path == "/run/haproxy/admin.sock");
    CHECK(s.haproxy.master_socket == "/run/haproxy-master.sock");
    CHECK(s.haproxy.state_file == "/var/lib/pointsman/haproxy.state");

    REQUIRE(s.etcd.endpoints.size() == 3);
    CHECK_FALSE(s.etcd.endpoints[0].tls);
    CHECK(s.etcd.endpoints[0].host == "127.0.20.100");
    CHECK(s.etcd.endpoints[0].port == 2379);
    CHECK(s.etcd.endpoints[1].tls);
    CHECK(s.etcd.endpoints[1].host == "fd00::1");
    CHECK(s.etcd.endpoints[1].port == 2379);
    CHECK(s.etcd.endpoints[2].host == "etcd3.example.org");
    CHECK(s.etcd.endpoints[2].port == 4001);
    CHECK(s.etcd.username == "pointsman");
    CHECK(s.etcd.password_file == "/etc/pointsman/etcd.password");
    CHECK(s.etcd.tls.ca_file == "/etc/e/ca.pem");
    CHECK(s.etcd.tls.cert_file == "/etc/e/cert.pem");
    CHECK(s.etcd.tls.key_file == "/etc/e/key.pem");
    CHECK(s.etcd.poll_interval == 750ms);

    REQUIRE(s.clusters.size() == 2);
    const cluster_settings& demo = s.clusters[0];
    CHECK(demo.scope == "demo7");
    CHECK_FALSE(demo.group);
    CHECK(key_prefix(demo) == "/service/demo7/");
    CHECK(demo.probe.interval == 500ms);
    CHECK(demo.probe.timeout == 2s);
    CHECK(demo.probe.tls.ca_file == "/etc/p/ca.pem");
    REQUIRE(demo.pools.size() == 2);
    CHECK(demo.pools[0].backend == "primary");
    CHECK(demo.pools[0].role == pool_role::primary);
    CHECK(demo.pools[0].check == "/master");
    REQUIRE(demo.pools[0].bind);
    CHECK(demo.pools[0].bind->host.empty());
    CHECK(demo.pools[0].bind->port == 5000);
    CHECK_FALSE(demo.pools[0].fallback_primary);
    CHECK_FALSE(demo.pools[0].use_proxy_url);
    CHECK_FALSE(demo.pools[0].weight);
    CHECK(demo.pools[1].role == pool_role::replica);
    CHECK(demo.pools[1].check == "/replica?lag=16MB&tag_region=eu");
    REQUIRE(demo.pools[1].bind);
    CHECK(demo.pools[1].bind->host == "::1");
    CHECK(demo.pools[1].bind->port == 5001);
    CHECK(demo.pools[1].fallback_primary);
    CHECK(demo.pools[1].use_proxy_url);
    REQUIRE(demo.pools[1].weight);
    CHECK(demo.pools[1].weight->base == 100);
    REQUIRE(demo.pools[1].weight->lag);
    CHECK(demo.pools[1].weight->lag->from == 1048576);
    CHECK(demo.pools[1].weight->lag->to == 67108864);

    CHECK(s.clusters[1].group == 0U);
    CHECK(key_prefix(s.clusters[1]) == "/postgres/prod/citus/0/");
    REQUIRE(s.clusters[1].pools.size() == 1);
    CHECK_FALSE(s.clusters[1].pools[0].use_proxy_url);

    REQUIRE(s.listen);
    CHECK(s.listen->host == "::1");
    CHECK(s.listen->port == 9127);
    CHECK(s.log.level == log_level::warning);
    CHECK(s.log.format == log_format::json);
}

TEST_CASE("config: what the shortest file leaves out has the documented defaults", "[config]") {
    const settings s = load_text(haproxy + etcd + clusters, "f");

    CHECK(s.haproxy.master_socket.empty());
    CHECK(s.haproxy.state_file.empty());
    CHECK(s.etcd.username.empty());
    CHECK(s.etcd.poll_interval == 5s);
    CHECK(s.clusters.at(0).name_space == "/service/");
    CHECK_FALSE(s.clusters.at(0).group);
    CHECK(s.clusters.at(0).probe.interval == 1s);
    CHECK(s.clusters.at(0).probe.timeout == 1s);
    CHECK_FALSE(s.clusters.at(0).pools.at(0).bind);
    CHECK_FALSE(s.clusters.at(0).pools.at(0).weight);
    REQUIRE(s.listen);
    CHECK(s.listen->host == "127.0.0.1");
    CHECK(s.listen->port == 9127);
    CHECK(s.log.level == log_level::info);
    CHECK(s.log.format == log_format::text);
}

TEST_CASE("config: the example that is delivered loads", "[config]") {
    const settings s = load_file(EXAMPLE_FILE);

    CHECK(s.haproxy.socket.path == "/run/haproxy/admin.sock");
    CHECK(s.haproxy.state_file == "/var/lib/pointsman/haproxy.state");
    REQUIRE(s.clusters.size() == 1);
    CHECK(key_prefix(s.clusters[0]) == "/service/demo/");
    REQUIRE(s.clusters[0].pools.size() == 2);
    CHECK(s.clusters[0].pools[0].bind->port == 5000);
    CHECK(s.clusters[0].pools[1].bind->port == 5001);
    CHECK(s.clusters[0].pools[1].fallback_primary);
}

TEST_CASE("config: what the example has in comments loads too, and has the defaults that it names", "[config]") {
    // Given the example with its commented keys taken in: `#key: value` and `#  key: value`, never `# Prose`.
    std::istringstream lines(read(EXAMPLE_FILE));
    std::string text;
    for (std::string line; std::getline(lines, line);) {
        const std::size_t hash = line.find('#');
        const bool commented = hash != std::string::npos && line.find_first_not_of(' ') == hash;
        const bool indented = commented && line.compare(hash + 1, 2, "  ") == 0;
        if (commented && hash + 1 < line.size() && (indented || line[hash + 1] != ' '))
            line.erase(hash, 1);
        text += line + '\n';
    }

    const settings s = load_text(text, "f");

    REQUIRE(s.etcd.username == "pointsman");
    REQUIRE(s.clusters.at(0).pools.at(1).weight);

    CHECK(s.etcd.poll_interval == etcd_settings{}.poll_interval);
    CHECK(s.clusters.at(0).name_space == cluster_settings{}.name_space);
    CHECK(s.clusters.at(0).probe.interval == probe_settings{}.interval);
    CHECK(s.clusters.at(0).probe.timeout == probe_settings{}.timeout);
    CHECK(s.clusters.at(0).pools.at(0).use_proxy_url == pool_settings{}.use_proxy_url);
    CHECK(s.listen->host == settings{}.listen->host);
    CHECK(s.listen->port == settings{}.listen->port);
    CHECK(s.log.level == log_settings{}.level);
    CHECK(s.log.format == log_settings{}.format);
}

TEST_CASE("config: HAProxy's socket may be reached over TCP", "[config]") {
    const settings v4 = load_text("haproxy: {socket: tcp://127.0.0.1:9999}\n" + etcd + clusters, "f");
    CHECK(v4.haproxy.socket.path.empty());
    CHECK(v4.haproxy.socket.host == "127.0.0.1");
    CHECK(v4.haproxy.socket.port == 9999);

    const settings v6 = load_text("haproxy: {socket: \"tcp://[::1]:9999\"}\n" + etcd + clusters, "f");
    CHECK(v6.haproxy.socket.host == "::1");
}

TEST_CASE("config: `listen: off` means no listener", "[config]") {
    CHECK_FALSE(load_text(haproxy + etcd + clusters + "listen: off\n", "f").listen);
    CHECK_FALSE(load_text(haproxy + etcd + clusters + "listen: \"off\"\n", "f").listen);
}

TEST_CASE("config: a namespace is written as Patroni writes it", "[config]") {
    const auto [written, meant] = GENERATE(table<std::string, std::string>({
        {"service", "/service/"},
        {"/service", "/service/"},
        {"service/", "/service/"},
        {"//service///", "/service/"},
        {"a//b", "/a/b/"},
        {"/", "/"},
    }));
    CAPTURE(written);
    const settings s =
        load_text(haproxy + etcd + "clusters:\n  - scope: demo\n    namespace: " + written + "\n" + pools, "f");
    CHECK(s.clusters.at(0).name_space == meant);
}

TEST_CASE("config: sizes and durations take their unit", "[config]") {
    const auto [from, bytes] = GENERATE(table<std::string, std::uint64_t>({
        {"0", 0},
        {"010", 10},
        {"512B", 512},
        {"16kB", 16'000},
        {"16KiB", 16'384},
        {"3MiB", 3'145'728},
        {"1GiB", 1'073'741'824},
    }));
    CAPTURE(from);
    const settings s = load_text(haproxy + etcd +
                                     "clusters:\n  - scope: demo\n    probe: {interval: 50ms, timeout: 1m}\n"
                                     "    pools: [{backend: r, role: replica, check: /replica, "
                                     "weight: {lag: {from: " +
                                     from + ", to: 2GiB}}}]\n",
                                 "f");
    CHECK(s.clusters.at(0).pools.at(0).weight->base == 1);
    CHECK(s.clusters.at(0).pools.at(0).weight->lag->from == bytes);
    CHECK(s.clusters.at(0).probe.interval == 50ms);
    CHECK(s.clusters.at(0).probe.timeout == 60s);
}

TEST_CASE("config: words that YAML knows as booleans and numbers stay text", "[config]") {
    const settings s = load_text(haproxy + etcd + "clusters:\n  - scope: yes\n" + pools +
                                     "  - scope: 0600\n    pools: [{backend: 0x10, role: primary, check: /master}]\n",
                                 "f");
    CHECK(s.clusters.at(0).scope == "yes");
    CHECK(s.clusters.at(1).scope == "0600");
    CHECK(s.clusters.at(1).pools.at(0).backend == "0x10");
}

TEST_CASE("config: anchors and aliases work", "[config]") {
    const settings s = load_text(haproxy +
                                     "etcd: {endpoints: [https://a], tls: &files {ca_file: /ca.pem}}\n"
                                     "clusters:\n  - scope: demo\n    probe: {tls: *files}\n" +
                                     pools,
                                 "f");
    CHECK(s.clusters.at(0).probe.tls.ca_file == "/ca.pem");
}

TEST_CASE("config: one cluster may feed two primary pools, and the same scope may be in two namespaces", "[config]") {
    CHECK(error_of(haproxy + etcd +
                   "clusters:\n  - scope: demo\n    pools: [{backend: a, role: primary, check: /master},"
                   " {backend: b, role: primary, check: /master}]\n"
                   "  - scope: demo\n    namespace: /other/\n    pools: [{backend: c, role: primary, check: /master}]\n"
                   "  - scope: demo\n    group: 1\n    pools: [{backend: d, role: primary, check: /master}]\n") ==
          "(no error)");
}

TEST_CASE("config: a wrong file is refused with the place and what would be right", "[config]") {
    const auto [name, text, expected] = GENERATE(table<std::string, std::string, std::string>({
        {"an empty file", "", "1:1: the file is empty" + sections},
        {"only comments", "# nothing\n", "1:1: the file is empty" + sections},
        {"an empty document", "---\n", "1:1: the file is empty" + sections},
        {"a list", "- haproxy\n", "1:1: the file is a list" + sections},
        {"a word", "haproxy\n", "1:1: the file is 'haproxy'" + sections},
        {"two documents", haproxy + etcd + clusters + "---\nlisten: off\n",
         "6:1: a second document; expected one, without a line of '---' in it"},
        {"a value with something behind it", "[haproxy] x\n",
         "1:11: not YAML: the value ends before this; check indentation, quotes and brackets up to here"},
        {"a document that yaml-cpp reads for ever", "!!x,y",
         "1:4: not YAML: the value ends before this; check indentation, quotes and brackets up to here"},
        {"a bracket left open", haproxy + "etcd: {endpoints: [http://a}\n",
         "2:28: not YAML: illegal flow end; check indentation, quotes and brackets up to here"},
        {"wrong indentation", "haproxy:\n  socket: /s\n   state_file: /f\n",
         "3:14: not YAML: illegal map value; check indentation, quotes and brackets up to here"},
        {"a tab as indentation", "haproxy:\n\tsocket: /s\n",
         "2:8: not YAML: illegal map value; check indentation, quotes and brackets up to here"},
        {"an escape without a character", "haproxy: \"\\",
         "1:13: not YAML: unknown escape character: \\x04; check indentation, quotes and brackets up to here"},
        {"an escape of a character of two bytes", "haproxy: \"\\\xc3\xa9\"\n",
         "1:13: not YAML: unknown escape character: \\xc3; check indentation, quotes and brackets up to here"},
        {"an unknown anchor", "haproxy: *h\n",
         "1:10: not YAML: the referenced anchor is not defined; check indentation, quotes and brackets up to here"},
        {"a byte that is not UTF-8", haproxy + "# \xff\n", "2:3: not UTF-8; save the file as UTF-8"},
        {"an overlong UTF-8 sequence", haproxy + "# caf\xc0\xaf\n", "2:6: not UTF-8; save the file as UTF-8"},
        {"a surrogate", haproxy + "# \xed\xa0\x80\n", "2:3: not UTF-8; save the file as UTF-8"},
        {"a UTF-8 sequence cut off by the end", haproxy + "# \xe2\x82", "2:3: not UTF-8; save the file as UTF-8"},
        {"the character that yaml-cpp takes for the end",
         haproxy + etcd + clusters +
             "log: {level: \x04"
             "error}\n",
         "6:14: a control character; remove it"},
        {"no haproxy", etcd + clusters,
         "1:1: missing key 'haproxy'; for example: haproxy: {socket: /run/haproxy/admin.sock}"},
        {"no etcd", haproxy + clusters,
         "1:1: missing key 'etcd'; for example: etcd: {endpoints: [\"http://127.0.0.1:2379\"]}"},
        {"no clusters", haproxy + etcd,
         "1:1: missing key 'clusters'; for example: clusters: [{scope: demo, pools: [{backend: primary, role: primary, "
         "check: /master}]}]"},
        {"a misspelt section", "haproxi: {socket: /s}\n", "1:1: unknown key 'haproxi'; did you mean 'haproxy'?"},
        {"an unknown section", haproxy + "metrics: off\n", "2:1: unknown key 'metrics'" + known_sections},
        {"a section twice", haproxy + etcd + haproxy, "3:1: duplicate key 'haproxy'; it is set on line 1 already"},
        {"a merge key", "<<: {haproxy: {socket: /s}}\n", "1:1: unknown key '<<'" + known_sections},
        {"a key that is a list", "? [haproxy]\n: x\n", "1:3: a key that is not text" + known_sections},
        {"a key that is null", "~: x\n", "1:1: a key that is not text" + known_sections},
        {"a key with an escape sequence", "\"\\e[2Jhaproxy\": x\n",
         "1:1: unknown key '\\x1b[2Jhaproxy'" + known_sections},
        {"a section that is text", "haproxy: /run/haproxy/admin.sock\n",
         "1:10: 'haproxy' is '/run/haproxy/admin.sock'; expected a mapping with socket, master_socket and state_file"},
        {"a section that is empty", "haproxy:\n",
         "1:1: 'haproxy' is empty; expected a mapping with socket, master_socket and state_file"},
        {"a section that is a list", "haproxy: [socket]\n",
         "1:10: 'haproxy' is a list; expected a mapping with socket, master_socket and state_file"},
        {"no socket", "haproxy:\n  state_file: /f\n",
         "2:3: missing key 'socket' in 'haproxy'; for example: socket: /run/haproxy/admin.sock"},
        {"a misspelt required key", "haproxy: {sokcet: /s}\n", "1:11: unknown key 'sokcet'; did you mean 'socket'?"},
        {"a key in capitals", "haproxy: {Socket: /s}\n", "1:11: unknown key 'Socket'; did you mean 'socket'?"},
        {"a hyphen for an underscore", "haproxy: {socket: /s, master-socket: /m}\n",
         "1:23: unknown key 'master-socket'; did you mean 'master_socket'?"},
        {"a key twice", "haproxy:\n  socket: /s\n  socket: /t\n",
         "3:3: duplicate key 'socket'; it is set on line 2 already"},
        {"an empty socket", "haproxy: {socket: \"\"}\n", "1:19: 'socket' is empty" + a_socket},
        {"a socket that is null", "haproxy: {state_file: /f, socket: ~}\n", "1:27: 'socket' is empty" + a_socket},
        {"a relative socket", "haproxy: {socket: admin.sock}\n", "1:19: 'socket' is 'admin.sock'" + a_socket},
        {"a socket with a host name", "haproxy: {socket: tcp://localhost:9999}\n",
         "1:19: 'socket' is 'tcp://localhost:9999'" + a_socket},
        {"a socket without a host", "haproxy: {socket: tcp://:9999}\n", "1:19: 'socket' is 'tcp://:9999'" + a_socket},
        {"a socket without a port", "haproxy: {socket: tcp://127.0.0.1}\n",
         "1:19: 'socket' is 'tcp://127.0.0.1'" + a_socket},
        {"a socket with port 0", "haproxy: {socket: tcp://127.0.0.1:0}\n",
         "1:19: 'socket' is 'tcp://127.0.0.1:0'" + a_socket},
        {"a socket with port 65536", "haproxy: {socket: tcp://127.0.0.1:65536}\n",
         "1:19: 'socket' is 'tcp://127.0.0.1:65536'" + a_socket},
        {"a socket with a path too long for the kernel", "haproxy: {socket: /" + std::string(107, 'x') + "}\n",
         "1:19: 'socket' is '/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'" +
             a_socket},
        {"a socket with a NUL", "haproxy: {socket: \"/s\\0\"}\n", "1:19: 'socket' is '/s\\x00'" + a_socket},
        {"a master socket over TCP", "haproxy: {socket: /s, master_socket: tcp://127.0.0.1:1}\n",
         "1:38: 'master_socket' is 'tcp://127.0.0.1:1'; expected an absolute path of at most 107 bytes"},
        {"a relative state file", "haproxy: {socket: /s, state_file: haproxy.state}\n",
         "1:35: 'state_file' is 'haproxy.state'" + a_path},
        {"no endpoints", "etcd: {username: u, password_file: /p}\n",
         "1:7: missing key 'endpoints' in 'etcd'; for example: endpoints: [\"http://127.0.0.1:2379\"]"},
        {"an empty list of endpoints", "etcd: {endpoints: []}\n",
         "1:19: 'endpoints' is an empty list; expected a list of http://HOST:PORT or https://HOST:PORT"},
        {"one endpoint without a list", "etcd: {endpoints: http://a:2379}\n",
         "1:19: 'endpoints' is 'http://a:2379'; expected a list of http://HOST:PORT or https://HOST:PORT"},
        {"an endpoint that is empty", "etcd:\n  endpoints:\n    -\n", "3:5: 'endpoints[0]' is empty" + an_endpoint},
        {"an endpoint that is a mapping", "etcd:\n  endpoints:\n    - http: a\n",
         "3:7: 'endpoints[0]' is a mapping" + an_endpoint},
        {"an endpoint without a scheme", "etcd: {endpoints: [\"127.0.0.1:2379\"]}\n",
         "1:20: 'endpoints[0]' is '127.0.0.1:2379'" + an_endpoint},
        {"an endpoint with a name for a scheme", "etcd: {endpoints: [\"etcd1:2379\"]}\n",
         "1:20: 'endpoints[0]' is 'etcd1:2379'" + an_endpoint},
        {"an endpoint of another scheme", "etcd: {endpoints: [unix:///s]}\n",
         "1:20: 'endpoints[0]' is 'unix:///s'" + an_endpoint},
        {"an endpoint with a path", "etcd: {endpoints: [http://a:2379/v3]}\n",
         "1:20: 'endpoints[0]' is 'http://a:2379/v3'" + an_endpoint},
        {"an endpoint with a query", "etcd: {endpoints: [\"http://a:2379/?x=1\"]}\n",
         "1:20: 'endpoints[0]' is 'http://a:2379/?x=1'" + an_endpoint},
        {"an endpoint with a fragment", "etcd: {endpoints: [\"http://a:2379/#x\"]}\n",
         "1:20: 'endpoints[0]' is 'http://a:2379/#x'" + an_endpoint},
        {"an endpoint with a password, which is not repeated", "etcd: {endpoints: [http://u:secret@a:2379]}\n",
         "1:20: 'endpoints[0]' holds credentials; expected http://HOST:PORT or https://HOST:PORT, and the credentials "
         "in 'username' and 'password_file'"},
        {"an endpoint without a host", "etcd: {endpoints: [http://:2379]}\n",
         "1:20: 'endpoints[0]' is 'http://:2379'" + an_endpoint},
        {"an endpoint with an escaped host", "etcd: {endpoints: [http://a%0d%0ab:2379]}\n",
         "1:20: 'endpoints[0]' is 'http://a%0d%0ab:2379'" + an_endpoint},
        {"an endpoint with port 0", "etcd: {endpoints: [http://a:0]}\n",
         "1:20: 'endpoints[0]' is 'http://a:0'" + an_endpoint},
        {"an endpoint with port 65536", "etcd: {endpoints: [http://a:65536]}\n",
         "1:20: 'endpoints[0]' is 'http://a:65536'" + an_endpoint},
        {"the second endpoint", "etcd:\n  endpoints:\n    - http://a\n    - ftp://b\n",
         "4:7: 'endpoints[1]' is 'ftp://b'" + an_endpoint},
        {"a user without a password file", endpoint_a + "username: u}\n",
         "1:41: 'username' without 'password_file'; give both or neither"},
        {"a password file without a user", endpoint_a + "password_file: /p}\n",
         "1:46: 'password_file' without 'username'; give both or neither"},
        {"a relative password file", endpoint_a + "username: u, password_file: p}\n",
         "1:59: 'password_file' is 'p'" + a_path},
        {"a certificate without a key", "etcd: {endpoints: [https://a], tls: {cert_file: /c}}\n",
         "1:49: 'cert_file' without 'key_file'; give both or neither"},
        {"a key without a certificate", "etcd: {endpoints: [https://a], tls: {key_file: /k}}\n",
         "1:48: 'key_file' without 'cert_file'; give both or neither"},
        {"tls as a word", "etcd: {endpoints: [https://a], tls: on}\n",
         "1:37: 'tls' is 'on'; expected a mapping with ca_file, cert_file and key_file"},
        {"an unknown key of tls", "etcd: {endpoints: [https://a], tls: {verify: no}}\n",
         "1:38: unknown key 'verify'; known here: ca_file, cert_file, key_file"},
        {"a duration without a unit", endpoint_a + "poll_interval: 5}\n",
         "1:46: 'poll_interval' is '5'" + a_poll_interval},
        {"a duration in another unit", endpoint_a + "poll_interval: 1h}\n",
         "1:46: 'poll_interval' is '1h'" + a_poll_interval},
        {"a duration with a fraction", endpoint_a + "poll_interval: 1.5s}\n",
         "1:46: 'poll_interval' is '1.5s'" + a_poll_interval},
        {"a negative duration", endpoint_a + "poll_interval: -1s}\n",
         "1:46: 'poll_interval' is '-1s'" + a_poll_interval},
        {"a duration that is too short", endpoint_a + "poll_interval: 499ms}\n",
         "1:46: 'poll_interval' is '499ms'" + a_poll_interval},
        {"a duration that is too long", endpoint_a + "poll_interval: 601s}\n",
         "1:46: 'poll_interval' is '601s'" + a_poll_interval},
        {"a duration past 64 bits", endpoint_a + "poll_interval: 18446744073709551615m}\n",
         "1:46: 'poll_interval' is '18446744073709551615m'" + a_poll_interval},
        {"a duration past any number", endpoint_a + "poll_interval: 99999999999999999999s}\n",
         "1:46: 'poll_interval' is '99999999999999999999s'" + a_poll_interval},
        {"no cluster", "clusters: []\n",
         "1:11: 'clusters' is an empty list; expected a list of clusters, each with a scope and pools"},
        {"a cluster without a list", "clusters: {scope: demo}\n",
         "1:11: 'clusters' is a mapping; expected a list of clusters, each with a scope and pools"},
        {"a cluster that is a word", "clusters: [demo]\n",
         "1:12: 'clusters[0]' is 'demo'; expected a mapping with scope, namespace, group, probe and pools"},
        {"a cluster without a scope", "clusters:\n  - namespace: /service/\n" + pools,
         "2:5: missing key 'scope' in 'clusters[0]'; for example: scope: demo"},
        {"a scope with a slash", "clusters: [{scope: a/b}]\n", "1:20: 'scope' is 'a/b'" + a_scope},
        {"a scope that is empty", "clusters: [{scope: ''}]\n", "1:20: 'scope' is empty" + a_scope},
        {"a scope with a control character", "clusters: [{scope: \"a\\x07\"}]\n",
         "1:20: 'scope' is 'a\\x07'" + a_scope},
        {"a scope that is a list", "clusters: [{scope: [demo]}]\n", "1:20: 'scope' is a list" + a_scope},
        {"a namespace with a control character", "clusters: [{scope: a, namespace: \"/s\\n/\"}]\n",
         "1:34: 'namespace' is '/s\\x0a/'; expected Patroni's namespace, such as /service/"},
        {"a group that is a word", "clusters: [{scope: a, group: coordinator}]\n",
         "1:30: 'group' is 'coordinator'" + a_group},
        {"a group in octal", "clusters: [{scope: a, group: 01}]\n", "1:30: 'group' is '01'" + a_group},
        {"a group below zero", "clusters: [{scope: a, group: -1}]\n", "1:30: 'group' is '-1'" + a_group},
        {"a misspelt key of probe", "clusters:\n  - scope: a\n    probe:\n      interva: 1s\n",
         "4:7: unknown key 'interva'; did you mean 'interval'?"},
        {"a probe that never ends", "clusters: [{scope: a, probe: {interval: 1s, timeout: 0s}}]\n",
         "1:54: 'timeout' is '0s'" + a_probe_duration},
        {"a probe without pause", "clusters: [{scope: a, probe: {interval: 49ms}}]\n",
         "1:41: 'interval' is '49ms'" + a_probe_duration},
        {"a probe of every hour", "clusters: [{scope: a, probe: {interval: 60m}}]\n",
         "1:41: 'interval' is '60m'" + a_probe_duration},
        {"no pools", "clusters:\n  - scope: a\n    probe: {interval: 1s}\n",
         "2:5: missing key 'pools' in 'clusters[0]'; for example: pools: [{backend: primary, role: primary, check: "
         "/master}]"},
        {"an empty list of pools", "clusters: [{scope: a, pools: []}]\n",
         "1:30: 'pools' is an empty list; expected a list of pools, each with a backend, a role and a check"},
        {"a pool without a backend", "clusters: [{scope: a, pools: [{role: primary, check: /master}]}]\n",
         "1:31: missing key 'backend' in 'pools[0]'; for example: backend: primary"},
        {"a pool without a role", pool + "check: /master}]}]\n",
         "1:31: missing key 'role' in 'pools[0]'; for example: role: primary"},
        {"a pool without a check", pool + "role: primary}]}]\n",
         "1:31: missing key 'check' in 'pools[0]'; for example: check: /master"},
        {"a backend with a space", "clusters: [{scope: a, pools: [{backend: b c}]}]\n",
         "1:41: 'backend' is 'b c'" + a_backend},
        {"a backend with a semicolon", "clusters: [{scope: a, pools: [{backend: b;c}]}]\n",
         "1:41: 'backend' is 'b;c'" + a_backend},
        {"a backend outside ASCII", "clusters: [{scope: a, pools: [{backend: prim\xc3\xa4r}]}]\n",
         "1:41: 'backend' is 'primär'" + a_backend},
        {"an unknown role", pool + "role: master}]}]\n", "1:50: 'role' is 'master'; expected primary or replica"},
        {"a check without a slash", pool + "check: master}]}]\n", "1:51: 'check' is 'master'" + a_check},
        {"a check with a space", pool + "check: /a b}]}]\n", "1:51: 'check' is '/a b'" + a_check},
        {"a check outside ASCII", pool + "check: /\xc3\xa4}]}]\n", "1:51: 'check' is '/ä'" + a_check},
        {"a bind that is a port", pool + "bind: 5000}]}]\n", "1:50: 'bind' is '5000'" + a_bind},
        {"a bind with a name", pool + "bind: localhost:5000}]}]\n", "1:50: 'bind' is 'localhost:5000'" + a_bind},
        {"a bind with a bare IPv6 address", pool + "bind: \"::1:5000\"}]}]\n", "1:50: 'bind' is '::1:5000'" + a_bind},
        {"a bind with brackets around nothing", pool + "bind: \"[]:5000\"}]}]\n", "1:50: 'bind' is '[]:5000'" + a_bind},
        {"a bind with a port and more", pool + "bind: \":5000x\"}]}]\n", "1:50: 'bind' is ':5000x'" + a_bind},
        {"an unknown fallback", pool + "fallback: yes}]}]\n", "1:54: 'fallback' is 'yes'; expected primary"},
        {"a fallback in a primary pool", pool + "role: primary, check: /m, fallback: primary}]}]\n",
         "1:80: 'fallback' in a primary pool; it is for pools with 'role: replica'"},
        {"a fallback in a cluster without a primary pool", pool + "role: replica, check: /r, fallback: primary}]}]\n",
         "1:80: 'fallback: primary' in a cluster without a primary pool; add a pool with 'role: primary'"},
        {"an unknown address", pool + "address: api_url}]}]\n",
         "1:53: 'address' is 'api_url'; expected conn_url or proxy_url"},
        {"weight as a number", pool + "weight: 100}]}]\n",
         "1:52: 'weight' is '100'; expected a mapping with base and lag"},
        {"a weight of 0", pool + "weight: {base: 0}}]}]\n", "1:59: 'base' is '0'; expected a weight of 1 to 256"},
        {"a weight of 257", pool + "weight: {base: 257}}]}]\n", "1:59: 'base' is '257'; expected a weight of 1 to 256"},
        {"a lag without an end", pool + "weight: {lag: {from: 1MiB}}}]}]\n",
         "1:58: missing key 'to' in 'lag'; for example: to: 64MiB"},
        {"a lag that ends where it begins", pool + "weight: {lag: {from: 1MiB, to: 1024KiB}}}]}]\n",
         "1:75: 'to' is '1024KiB'; expected more than 'from'"},
        {"a lag in an ambiguous unit", pool + "weight: {lag: {from: 16MB, to: 1GiB}}}]}]\n",
         "1:65: 'from' is '16MB'" + a_size},
        {"a lag past 64 bits", pool + "weight: {lag: {from: 0, to: 17179869184GiB}}}]}]\n",
         "1:72: 'to' is '17179869184GiB'" + a_size},
        {"a lag in a primary pool", pool + "role: primary, check: /m, weight: {lag: {from: 0, to: 1}}}]}]\n",
         "1:84: 'lag' in a primary pool; it is for pools with 'role: replica'"},
        {"one backend in two pools",
         haproxy + etcd +
             "clusters:\n  - scope: a\n    pools:\n      - {backend: b, role: primary, check: /m}\n      - {backend: "
             "b, role: replica, check: /r}\n",
         "7:19: backend 'b' belongs to the pool on line 6 already; a backend is for one pool"},
        {"one backend in two clusters", haproxy + etcd + clusters + "  - scope: other\n" + pools,
         "7:23: backend 'primary' belongs to the pool on line 5 already; a backend is for one pool"},
        {"one cluster twice",
         haproxy + etcd + clusters +
             "  - scope: demo\n    namespace: service\n    pools: [{backend: c, role: primary, check: /m}]\n",
         "6:12: the keys under '/service/demo/' are those of the cluster on line 4 already; give a cluster all its "
         "pools in one place"},
        {"a listen without a port", haproxy + etcd + clusters + "listen: 127.0.0.1\n",
         "6:9: 'listen' is '127.0.0.1'" + a_listen},
        {"a listen that is false", haproxy + etcd + clusters + "listen: false\n",
         "6:9: 'listen' is 'false'" + a_listen},
        {"a listen with a name", haproxy + etcd + clusters + "listen: localhost:9127\n",
         "6:9: 'listen' is 'localhost:9127'" + a_listen},
        {"an unknown level", haproxy + etcd + clusters + "log: {level: warn}\n",
         "6:14: 'level' is 'warn'; expected debug, info, warning or error"},
        {"an unknown format", haproxy + etcd + clusters + "log: {format: xml}\n",
         "6:15: 'format' is 'xml'; expected text or json"},
        {"a misspelt key of log", haproxy + etcd + clusters + "log: {fromat: json}\n",
         "6:7: unknown key 'fromat'; did you mean 'format'?"},
    }));
    CAPTURE(name, text);
    CHECK(error_of(text) == "f:" + expected);
}

TEST_CASE("config: each file under wrong/ is refused as its first line says", "[config]") {
    std::set<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(WRONG_FILES))
        files.insert(entry.path());
    REQUIRE(files.size() >= 20);

    for (const std::filesystem::path& file : files) {
        CAPTURE(file);
        std::ifstream in(file);
        std::string first;
        std::getline(in, first);
        const std::string_view mark = "# expect: ";
        REQUIRE(first.starts_with(mark));
        CHECK_THROWS_WITH(load_file(file), file.string() + ':' + first.substr(mark.size()));
    }
}

TEST_CASE("config: a file that cannot be read is an error with its name", "[config]") {
    CHECK_THROWS_WITH(load_file("/nonexistent/pointsman.yml"),
                      "/nonexistent/pointsman.yml: cannot be read: No such file or directory");
    CHECK_THROWS_WITH(load_file("/"), "/: cannot be read: Is a directory");
}

TEST_CASE("config: a file that never ends or nests without end is refused in bounded time", "[config]") {
    const std::size_t limit = std::size_t{1} << 20;
    CHECK_THROWS_WITH(load_file("/dev/zero"), "/dev/zero:1:1: the file is larger than 1 MiB; is it the right one?");
    CHECK(error_of(std::string(limit + 1, '\n')) == "f:1:1: the file is larger than 1 MiB; is it the right one?");
    CHECK(error_of(std::string(limit, '\n')) ==
          "f:1:1: the file is empty; expected a mapping with haproxy, etcd, clusters, listen and log");
    CHECK_THAT(error_of(std::string(limit, '[')), Catch::EndsWith("nested too deeply; is it the right file?"));
    CHECK_THAT(error_of(std::string(limit, '-')), Catch::StartsWith("f:1:1: "));

    // Ten anchors, each nine times the one before: a milliard leaves, of which none is visited.
    std::string bomb = "a0: &a0 x\n";
    for (int i = 1; i < 10; ++i) {
        const std::string previous = "*a" + std::to_string(i - 1);
        std::string items = previous;
        for (int j = 1; j < 9; ++j)
            items += ", " + previous;
        bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + items + "]\n";
    }
    CHECK(error_of(bomb) == "f:1:1: unknown key 'a0'; known here: haproxy, etcd, clusters, listen, log");
    CHECK(error_of("haproxy: &x {socket: *x}\n") ==
          "f:1:10: 'socket' is a mapping; expected an absolute path of at most 107 bytes, or tcp://ADDRESS:PORT with a "
          "numeric address");
}

TEST_CASE("config: a text with random damage loads or is refused in one line", "[config]") {
    const bool held = rc::check([] {
        std::string text = full;
        const auto changes = *rc::gen::inRange(1, 6);
        for (int i = 0; i < changes; ++i) {
            const auto at = static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(text.size())));
            const auto length = static_cast<std::size_t>(*rc::gen::inRange(0, 20));
            const std::string piece = *rc::gen::oneOf(
                rc::gen::element<std::string>("{", "}", "[", "]", ": ", "- ", "\n", "\t", " ", "&a ", "*a", "!!binary ",
                                              "\"", "'", "#", "|", ">-\n", "%", "---\n", "...\n", "? ", "<<: ", "@",
                                              "\\", "~", "\xef\xbb\xbf", "\xff", "\x04", "0"),
                rc::gen::container<std::string>(rc::gen::arbitrary<char>()),
                rc::gen::map(rc::gen::inRange(0, static_cast<int>(full.size())),
                             [](int from) { return full.substr(static_cast<std::size_t>(from), 40); }));
            text.replace(at, length, piece);
        }
        try {
            load_text(text, "f");
        } catch (const config_error& error) {
            const std::string what = error.what();
            RC_ASSERT(what.starts_with("f:"));
            RC_ASSERT(std::none_of(what.begin(), what.end(), [](char c) { return c >= 0 && c < ' '; }));
            RC_ASSERT(what.find("; ") != std::string::npos);
            RC_ASSERT(what.size() < 400U);
        }
    });
    CHECK(held);
}
