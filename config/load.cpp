#include "config/load.hpp"

#include <boost/url/ipv4_address.hpp>
#include <boost/url/ipv6_address.hpp>
#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

namespace pointsman::config {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t max_file_size = std::size_t{1} << 20;
constexpr std::size_t max_unix_path = 107; // sun_path of Linux, less its terminating NUL

// ---------------------------------------------------------------------------------------------------------------------
// Text.

// Takes the first code point off `text`; nullopt where that is not UTF-8.
std::optional<char32_t> take_code_point(std::string_view& text) {
    const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const std::size_t length = byte(0) < 0x80 ? 1 : byte(0) < 0xc2 ? 0 : byte(0) < 0xe0 ? 2 : byte(0) < 0xf0 ? 3 : 4;
    if (length == 0 || byte(0) > 0xf4 || text.size() < length)
        return std::nullopt;
    char32_t code = length == 1 ? byte(0) : byte(0) & (0xffU >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0U) != 0x80)
            return std::nullopt;
        code = code << 6U | (byte(i) & 0x3fU);
    }
    constexpr char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return std::nullopt;
    text.remove_prefix(length);
    return code;
}

bool is_control(char32_t code) {
    return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

bool has_control(std::string_view text) {
    while (!text.empty()) {
        const std::optional<char32_t> code = take_code_point(text);
        if (!code || is_control(*code))
            return true;
    }
    return false;
}

// A text of the file in an error: on one line, not too long.
std::string escaped(std::string_view text) {
    constexpr std::size_t limit = 79;
    std::string out;
    while (!text.empty() && out.size() < limit) {
        const std::string_view before = text;
        const std::optional<char32_t> code = take_code_point(text);
        if (code && !is_control(*code)) {
            out += before.substr(0, before.size() - text.size());
        } else {
            const unsigned bits = code ? static_cast<unsigned>(*code) : static_cast<unsigned char>(before.front());
            out += "\\x";
            out += "0123456789abcdef"[bits >> 4U];
            out += "0123456789abcdef"[bits & 0xfU];
            if (!code)
                text.remove_prefix(1);
        }
    }
    return out + (text.empty() ? "" : "...");
}

std::string shown(std::string_view text) {
    return '\'' + escaped(text) + '\'';
}

std::string joined(const std::vector<std::string>& words, std::string_view last_separator) {
    std::string out;
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (i > 0)
            out += i + 1 == words.size() ? last_separator : ", ";
        out += words[i];
    }
    return out;
}

// How many characters have to be added, removed or changed to make one word of the other.
std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = std::exchange(row[0], i + 1);
        for (std::size_t j = 0; j < b.size(); ++j) {
            const std::size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = std::exchange(row[j + 1], std::min({changed, row[j] + 1, row[j + 1] + 1}));
        }
    }
    return row.back();
}

// The word that was probably meant; empty where none is near.
std::string nearest(std::string_view typed, const std::vector<std::string>& words) {
    std::string best;
    std::size_t best_distance = typed.size() < 4 ? 2 : 3;
    for (const std::string& word : words) {
        const std::size_t distance = edit_distance(typed, word);
        if (distance < best_distance) {
            best = word;
            best_distance = distance;
        }
    }
    return best;
}

template<class T>
std::optional<T> to_number(std::string_view text) {
    T number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size())
        return std::nullopt;
    return number;
}

// `<n><unit>` in terms of the smallest unit; nullopt where it is something else or too large for any purpose.
std::optional<std::uint64_t> to_quantity(std::string_view text,
                                         std::initializer_list<std::pair<std::string_view, std::uint64_t>> units) {
    const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    const auto number = to_number<std::uint64_t>(text.substr(0, digits));
    const auto* unit = std::find_if(units.begin(), units.end(),
                                    [name = text.substr(digits)](const auto& u) { return u.first == name; });
    if (!number || unit == units.end() || *number > std::numeric_limits<std::uint64_t>::max() / unit->second)
        return std::nullopt;
    return *number * unit->second;
}

std::string shown(std::chrono::milliseconds duration) {
    if (duration % 1min == 0ms)
        return std::to_string(duration / 1min) + "m";
    if (duration % 1s == 0ms)
        return std::to_string(duration / 1s) + "s";
    return std::to_string(duration.count()) + "ms";
}

// `10.0.0.1:5000`, `[fd00::1]:5000` or `:5000`.
std::optional<listen_address> to_listen_address(std::string_view text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos)
        return std::nullopt;
    const auto port = to_number<std::uint16_t>(text.substr(colon + 1));
    std::string_view host = text.substr(0, colon);
    if (!port || *port == 0)
        return std::nullopt;
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
        if (!boost::urls::parse_ipv6_address(host))
            return std::nullopt;
    } else if (!host.empty() && !boost::urls::parse_ipv4_address(host)) {
        return std::nullopt;
    }
    return listen_address{std::string(host), *port};
}

// ---------------------------------------------------------------------------------------------------------------------
// The file as a tree. yaml-cpp takes duplicate keys, knows no unknown ones, reads `0600` as 384 and `yes` as true
// (style B.4): so only its marks and its texts are used here, never its conversions.

[[noreturn]] void fail_at(const std::string& file, const YAML::Mark& at, const std::string& what) {
    throw config_error(file + ':' + std::to_string(std::max(at.line, 0) + 1) + ':' +
                       std::to_string(std::max(at.column, 0) + 1) + ": " + what);
}

// What stands under a key, and where.
class value {
public:
    // An absent value (`key:`) has no useful place of its own: its key's is taken.
    value(const std::string& file, std::string key, const YAML::Mark& key_mark, const YAML::Node& node)
        : file_(file), key_(std::move(key)), mark_(node.IsNull() ? key_mark : node.Mark()), node_(node) {}

    const std::string& file() const { return file_; }
    const std::string& key() const { return key_; }
    const YAML::Mark& mark() const { return mark_; }
    const YAML::Node& node() const { return node_; }

    [[noreturn]] void fail(const std::string& what) const { fail_at(file_, mark_, what); }

    // Fails with what it is and what would be right.
    [[noreturn]] void refuse(const std::string& expected) const {
        const std::string is = node_.IsMap()                              ? "a mapping"
                               : node_.IsSequence() && node_.size() > 0   ? "a list"
                               : node_.IsSequence()                       ? "an empty list"
                               : node_.IsNull() || node_.Scalar().empty() ? "empty"
                                                                          : shown(node_.Scalar());
        fail((key_.empty() ? "the file" : "'" + key_ + "'") + " is " + is + "; expected " + expected);
    }

    // A text that is not empty and has no control characters in it.
    const std::string& text(const std::string& expected) const {
        if (!node_.IsScalar() || node_.Scalar().empty() || has_control(node_.Scalar()))
            refuse(expected);
        return node_.Scalar();
    }

    // REQUIRES: a list, or a mapping that has this key.
    value at(std::size_t index) const { return {file_, key_ + '[' + std::to_string(index) + ']', mark_, node_[index]}; }
    value at(const std::string& key) const { return {file_, key, mark_, node_[key]}; }

private:
    const std::string& file_;
    std::string key_;
    YAML::Mark mark_;
    YAML::Node node_;
};

// One key of a mapping: its name and what to do with its value.
struct field {
    std::string key;
    std::string example; // for a required key: what to write; empty: it may be left out
    std::function<void(const value&)> read;
};

// The value is read by `reader` and stored in `target`, which keeps its default where the key is not there.
template<class Target, class Reader>
field optional(std::string key, Target& target, Reader reader) {
    return {std::move(key), "", [&target, reader](const value& v) { target = reader(v); }};
}

template<class Target, class Reader>
field required(std::string key, std::string example, Target& target, Reader reader) {
    return {std::move(key), std::move(example), [&target, reader](const value& v) { target = reader(v); }};
}

// The keys that a mapping has.
using found_keys = std::map<std::string, value>;

// Reads a mapping in the order of the file, so that the first mistake in it is the one that is told. A missing key
// comes last: its misspelling, if that is what it is, has been told before.
found_keys read_mapping(const value& mapping, const std::vector<field>& fields) {
    std::vector<std::string> names;
    names.reserve(fields.size());
    for (const field& f : fields)
        names.push_back(f.key);
    if (!mapping.node().IsMap())
        mapping.refuse("a mapping with " + joined(names, " and "));

    found_keys found;
    for (const auto& pair : mapping.node()) {
        const YAML::Mark mark = pair.first.Mark();
        if (!pair.first.IsScalar())
            fail_at(mapping.file(), mark, "a key that is not text; known here: " + joined(names, ", "));
        const std::string& key = pair.first.Scalar();
        const auto known = std::find_if(fields.begin(), fields.end(), [&key](const field& f) { return f.key == key; });
        if (known == fields.end()) {
            const std::string meant = nearest(key, names);
            fail_at(mapping.file(), mark,
                    "unknown key " + shown(key) + "; " +
                        (meant.empty() ? "known here: " + joined(names, ", ") : "did you mean '" + meant + "'?"));
        }
        const auto [at, fresh] = found.try_emplace(key, mapping.file(), key, mark, pair.second);
        if (!fresh)
            fail_at(mapping.file(), mark,
                    "duplicate key '" + key + "'; it is set on line " + std::to_string(at->second.mark().line + 1) +
                        " already");
        known->read(at->second);
    }
    for (const field& f : fields)
        if (!f.example.empty() && !found.contains(f.key))
            mapping.fail("missing key '" + f.key + "'" + (mapping.key().empty() ? "" : " in '" + mapping.key() + "'") +
                         "; for example: " + f.key + ": " + f.example);
    return found;
}

void require_both(const found_keys& found, const std::string& a, const std::string& b) {
    if (found.contains(a) && !found.contains(b))
        found.at(a).fail("'" + a + "' without '" + b + "'; give both or neither");
    if (found.contains(b) && !found.contains(a))
        found.at(b).fail("'" + b + "' without '" + a + "'; give both or neither");
}

// ---------------------------------------------------------------------------------------------------------------------
// Values.

// A list of at least one `what`, each read by `reader`.
template<class Reader>
auto list_of(std::string what, Reader reader) {
    return [what = std::move(what), reader](const value& v) {
        if (!v.node().IsSequence() || v.node().size() == 0)
            v.refuse("a list of " + what);
        std::vector<decltype(reader(v))> items;
        for (std::size_t i = 0; i < v.node().size(); ++i)
            items.push_back(reader(v.at(i)));
        return items;
    };
}

template<class T>
auto one_of(std::vector<std::pair<std::string, T>> choices) {
    return [choices = std::move(choices)](const value& v) {
        std::vector<std::string> names;
        for (const auto& choice : choices)
            names.push_back(choice.first);
        const std::string expected = joined(names, " or ");
        const std::string& text = v.text(expected);
        for (const auto& [name, meaning] : choices)
            if (name == text)
                return meaning;
        v.refuse(expected);
    };
}

auto duration(std::chrono::milliseconds least, std::chrono::milliseconds most) {
    return [least, most](const value& v) {
        const std::string expected = "a duration of " + shown(least) + " to " + shown(most) + ", such as 750ms or 1s";
        const auto count = to_quantity(v.text(expected), {{"ms", 1}, {"s", 1000}, {"m", 60'000}});
        if (!count || *count < static_cast<std::uint64_t>(least.count()) ||
            *count > static_cast<std::uint64_t>(most.count()))
            v.refuse(expected);
        return std::chrono::milliseconds(*count);
    };
}

std::uint64_t read_size(const value& v) {
    const std::string expected = "a size in B, kB (1000), KiB (1024), MiB or GiB, such as 16MiB";
    const auto size = to_quantity(
        v.text(expected), {{"", 1}, {"B", 1}, {"kB", 1000}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}});
    if (!size)
        v.refuse(expected);
    return *size;
}

std::string read_text(const value& v) {
    return v.text("text without control characters");
}

std::string read_file_path(const value& v) {
    const std::string expected = "an absolute path";
    const std::string& path = v.text(expected);
    if (!path.starts_with('/'))
        v.refuse(expected);
    return path;
}

std::string read_unix_path(const value& v) {
    const std::string expected = "an absolute path of at most " + std::to_string(max_unix_path) + " bytes";
    const std::string& path = v.text(expected);
    if (!path.starts_with('/') || path.size() > max_unix_path)
        v.refuse(expected);
    return path;
}

socket_target read_socket(const value& v) {
    const std::string expected = "an absolute path of at most " + std::to_string(max_unix_path) +
                                 " bytes, or tcp://ADDRESS:PORT with a numeric address";
    const std::string& text = v.text(expected);
    if (text.starts_with("tcp://")) {
        const std::optional<listen_address> where = to_listen_address(std::string_view(text).substr(6));
        if (!where || where->host.empty())
            v.refuse(expected);
        return {.path = "", .host = where->host, .port = where->port};
    }
    if (!text.starts_with('/') || text.size() > max_unix_path)
        v.refuse(expected);
    return {.path = text, .host = "", .port = 0};
}

listen_address read_bind(const value& v) {
    const std::string expected = "ADDRESS:PORT with a numeric address, such as :5000, 127.0.0.1:5000 or \"[::1]:5000\"";
    const std::optional<listen_address> where = to_listen_address(v.text(expected));
    if (!where)
        v.refuse(expected);
    return *where;
}

std::optional<listen_address> read_listen(const value& v) {
    const std::string expected = "off, or ADDRESS:PORT with a numeric address, such as 127.0.0.1:9127";
    const std::string& text = v.text(expected);
    if (text == "off")
        return std::nullopt;
    std::optional<listen_address> where = to_listen_address(text);
    if (!where)
        v.refuse(expected);
    return where;
}

// ---------------------------------------------------------------------------------------------------------------------
// Sections, in the order of the file.

haproxy_settings read_haproxy(const value& v) {
    haproxy_settings to;
    const std::vector<field> fields = {
        required("socket", "/run/haproxy/admin.sock", to.socket, read_socket),
        optional("master_socket", to.master_socket, read_unix_path),
        optional("state_file", to.state_file, read_file_path),
    };
    read_mapping(v, fields);
    return to;
}

tls_settings read_tls(const value& v) {
    tls_settings to;
    const std::vector<field> fields = {
        optional("ca_file", to.ca_file, read_file_path),
        optional("cert_file", to.cert_file, read_file_path),
        optional("key_file", to.key_file, read_file_path),
    };
    const found_keys found = read_mapping(v, fields);
    require_both(found, "cert_file", "key_file");
    return to;
}

endpoint read_endpoint(const value& v) {
    const std::string expected = "http://HOST:PORT or https://HOST:PORT";
    const std::string& text = v.text(expected);
    // Told without the text, which may hold a password.
    if (text.find('@') != std::string::npos)
        v.fail("'" + v.key() + "' holds credentials; expected " + expected +
               ", and the credentials in 'username' and 'password_file'");

    const auto url = boost::urls::parse_uri(text);
    if (!url || (url->scheme_id() != boost::urls::scheme::http && url->scheme_id() != boost::urls::scheme::https))
        v.refuse(expected);
    const bool bare =
        (url->encoded_path().empty() || url->encoded_path() == "/") && !url->has_query() && !url->has_fragment();
    const std::string host = url->host_address();
    const bool named =
        url->host_type() == boost::urls::host_type::name && std::all_of(host.begin(), host.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
                   c == '_';
        });
    const bool numeric =
        url->host_type() == boost::urls::host_type::ipv4 || url->host_type() == boost::urls::host_type::ipv6;
    const std::uint16_t port = url->has_port() ? url->port_number() : std::uint16_t{2379}; // 0 where it is none
    if (!bare || !(named || numeric) || host.empty() || host.size() > 253 || port == 0)
        v.refuse(expected);
    return {.tls = url->scheme_id() == boost::urls::scheme::https, .host = host, .port = port};
}

etcd_settings read_etcd(const value& v) {
    etcd_settings to;
    const std::vector<field> fields = {
        required("endpoints", "[\"http://127.0.0.1:2379\"]", to.endpoints,
                 list_of("http://HOST:PORT or https://HOST:PORT", read_endpoint)),
        optional("username", to.username, read_text),
        optional("password_file", to.password_file, read_file_path),
        optional("tls", to.tls, read_tls),
        optional("poll_interval", to.poll_interval, duration(500ms, 10min)),
    };
    const found_keys found = read_mapping(v, fields);
    require_both(found, "username", "password_file");
    return to;
}

// Patroni puts the scope into its keys as it is (facts 1.1).
std::string read_scope(const value& v) {
    const std::string expected = "the scope as Patroni's configuration has it, without '/'";
    const std::string& scope = v.text(expected);
    if (scope.find('/') != std::string::npos)
        v.refuse(expected);
    return scope;
}

// `service`, `/service` and `//service/` are one for Patroni (facts 1.1), so they are here.
std::string read_namespace(const value& v) {
    std::string out = "/";
    for (const char c : v.text("Patroni's namespace, such as /service/"))
        if (c != '/' || out.back() != '/')
            out += c;
    return out.ends_with('/') ? out : out + '/';
}

// Spelt as Patroni spells it: a group that begins with 0 is another one, or none (facts 1.1).
unsigned read_group(const value& v) {
    const std::string expected = "a Citus group, a number such as 0 or 12";
    const std::string& text = v.text(expected);
    const auto group = to_number<unsigned>(text);
    if (!group || std::to_string(*group) != text)
        v.refuse(expected);
    return *group;
}

probe_settings read_probe(const value& v) {
    probe_settings to;
    const std::vector<field> fields = {
        optional("interval", to.interval, duration(50ms, 1min)),
        optional("timeout", to.timeout, duration(50ms, 1min)),
        optional("tls", to.tls, read_tls),
    };
    read_mapping(v, fields);
    return to;
}

std::string read_backend(const value& v) {
    const std::string expected = "a backend's name: letters, digits and _ . : -";
    const std::string& name = v.text(expected);
    if (name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-") !=
        std::string::npos)
        v.refuse(expected);
    return name;
}

std::string read_check(const value& v) {
    const std::string expected =
        "a path of Patroni's REST API in printable ASCII without spaces, such as /replica?lag=16MB";
    const std::string& path = v.text(expected);
    if (!path.starts_with('/') || !std::all_of(path.begin(), path.end(), [](char c) { return c > ' ' && c < '\x7f'; }))
        v.refuse(expected);
    return path;
}

lag_settings read_lag(const value& v) {
    lag_settings to;
    const std::vector<field> fields = {
        required("from", "1MiB", to.from, read_size),
        required("to", "64MiB", to.to, read_size),
    };
    const found_keys found = read_mapping(v, fields);
    if (to.from >= to.to)
        found.at("to").refuse("more than 'from'");
    return to;
}

unsigned read_weight_base(const value& v) {
    const std::string expected = "a weight of 1 to 256";
    const auto weight = to_number<unsigned>(v.text(expected));
    if (!weight || *weight < 1 || *weight > 256)
        v.refuse(expected);
    return *weight;
}

weight_settings read_weight(const value& v) {
    weight_settings to;
    const std::vector<field> fields = {
        optional("base", to.base, read_weight_base),
        optional("lag", to.lag, read_lag),
    };
    read_mapping(v, fields);
    return to;
}

pool_settings read_pool(const value& v) {
    pool_settings to;
    const std::vector<field> fields = {
        required("backend", "primary", to.backend, read_backend),
        required("role", "primary", to.role,
                 one_of<pool_role>({{"primary", pool_role::primary}, {"replica", pool_role::replica}})),
        required("check", "/master", to.check, read_check),
        optional("bind", to.bind, read_bind),
        optional("fallback", to.fallback_primary, one_of<bool>({{"primary", true}})),
        optional("address", to.use_proxy_url, one_of<bool>({{"conn_url", false}, {"proxy_url", true}})),
        optional("weight", to.weight, read_weight),
    };
    const found_keys found = read_mapping(v, fields);
    if (to.fallback_primary && to.role != pool_role::replica)
        found.at("fallback").fail("'fallback' in a primary pool; it is for pools with 'role: replica'");
    if (to.weight && to.weight->lag && to.role != pool_role::replica)
        found.at("weight").at("lag").fail("'lag' in a primary pool; it is for pools with 'role: replica'");
    return to;
}

cluster_settings read_cluster(const value& v) {
    cluster_settings to;
    const std::vector<field> fields = {
        required("scope", "demo", to.scope, read_scope),
        optional("namespace", to.name_space, read_namespace),
        optional("group", to.group, read_group),
        optional("probe", to.probe, read_probe),
        required("pools", "[{backend: primary, role: primary, check: /master}]", to.pools,
                 list_of("pools, each with a backend, a role and a check", read_pool)),
    };
    read_mapping(v, fields);
    const bool has_primary = std::any_of(to.pools.begin(), to.pools.end(),
                                         [](const pool_settings& p) { return p.role == pool_role::primary; });
    for (std::size_t i = 0; i < to.pools.size(); ++i)
        if (to.pools[i].fallback_primary && !has_primary)
            v.at("pools")
                .at(i)
                .at("fallback")
                .fail("'fallback: primary' in a cluster without a primary pool; add a pool with 'role: primary'");
    return to;
}

log_settings read_log(const value& v) {
    log_settings to;
    const std::vector<field> fields = {
        optional("level", to.level,
                 one_of<log_level>({{"debug", log_level::debug},
                                    {"info", log_level::info},
                                    {"warning", log_level::warning},
                                    {"error", log_level::error}})),
        optional("format", to.format, one_of<log_format>({{"text", log_format::text}, {"json", log_format::json}})),
    };
    read_mapping(v, fields);
    return to;
}

// Two pools of one backend would undo each other's work, and so would two clusters that are the same one.
void check_unique(const std::vector<cluster_settings>& clusters, const value& list) {
    std::map<std::string, int> backend_lines;
    std::map<std::string, int> cluster_lines;
    for (std::size_t i = 0; i < clusters.size(); ++i) {
        const value cluster = list.at(i);
        const value scope = cluster.at("scope");
        const auto [seen, fresh] = cluster_lines.try_emplace(key_prefix(clusters[i]), scope.mark().line + 1);
        if (!fresh)
            scope.fail("the keys under " + shown(seen->first) + " are those of the cluster on line " +
                       std::to_string(seen->second) + " already; give a cluster all its pools in one place");
        for (std::size_t j = 0; j < clusters[i].pools.size(); ++j) {
            const value backend = cluster.at("pools").at(j).at("backend");
            const auto [used, unused] =
                backend_lines.try_emplace(clusters[i].pools[j].backend, backend.mark().line + 1);
            if (!unused)
                backend.fail("backend '" + used->first + "' belongs to the pool on line " +
                             std::to_string(used->second) + " already; a backend is for one pool");
        }
    }
}

settings read_settings(const value& document) {
    settings to;
    const std::vector<field> fields = {
        required("haproxy", "{socket: /run/haproxy/admin.sock}", to.haproxy, read_haproxy),
        required("etcd", "{endpoints: [\"http://127.0.0.1:2379\"]}", to.etcd, read_etcd),
        required("clusters", "[{scope: demo, pools: [{backend: primary, role: primary, check: /master}]}]", to.clusters,
                 list_of("clusters, each with a scope and pools", read_cluster)),
        optional("listen", to.listen, read_listen),
        optional("log", to.log, read_log),
    };
    const found_keys found = read_mapping(document, fields);
    check_unique(to.clusters, found.at("clusters"));
    return to;
}

// yaml-cpp takes U+0004 for the end of the file and passes on what is not UTF-8.
void check_text(std::string_view text, const std::string& file) {
    YAML::Mark at;
    if (text.size() > max_file_size)
        fail_at(file, at, "the file is larger than 1 MiB; is it the right one?");
    while (!text.empty()) {
        const std::size_t size = text.size();
        const std::optional<char32_t> code = take_code_point(text);
        if (!code)
            fail_at(file, at, "not UTF-8; save the file as UTF-8");
        if (is_control(*code) && *code != '\t' && *code != '\n' && *code != '\r')
            fail_at(file, at, "a control character; remove it");
        at.column = *code == '\n' ? 0 : at.column + static_cast<int>(size - text.size());
        at.line += *code == '\n' ? 1 : 0;
    }
}

// Where the documents of a file begin.
class document_marks : public YAML::EventHandler {
public:
    std::vector<YAML::Mark> marks;

    void OnDocumentStart(const YAML::Mark& mark) override { marks.push_back(mark); }
    void OnDocumentEnd() override {}
    void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
    void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
    void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
    void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
    void OnSequenceEnd() override {}
    void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
    void OnMapEnd() override {}
};

// Not YAML::LoadAll: where a value has something behind it (`!!x,y`) yaml-cpp 0.7 begins a document there that takes
// nothing off the file, and another one, until the memory is full.
void check_single_document(const std::string& text, const std::string& file) {
    std::istringstream in(text);
    YAML::Parser parser(in);
    document_marks documents;
    while (documents.marks.size() < 2 && parser.HandleNextDocument(documents)) {
    }
    if (documents.marks.size() < 2)
        return;
    const YAML::Mark& second = documents.marks[1];
    fail_at(file, second,
            second.column == 0
                ? "a second document; expected one, without a line of '---' in it"
                : "not YAML: the value ends before this; check indentation, quotes and brackets up to here");
}

} // namespace

settings load_text(std::string_view text, const std::string& name) {
    check_text(text, name);
    try {
        check_single_document(std::string(text), name);
        return read_settings(value(name, "", {}, YAML::Load(std::string(text))));
    } catch (const YAML::DeepRecursion& error) {
        fail_at(name, error.mark, "nested too deeply; is it the right file?");
    } catch (const YAML::Exception& error) {
        // It may quote half a character of the file.
        fail_at(name, error.mark,
                "not YAML: " + escaped(error.msg) + "; check indentation, quotes and brackets up to here");
    }
}

settings load_file(const std::string& path) {
    errno = 0;
    std::ifstream in(path, std::ios::binary);
    std::string text(max_file_size + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (!in.is_open() || in.bad())
        throw config_error(path + ": cannot be read: " + std::generic_category().message(errno));
    text.resize(static_cast<std::size_t>(in.gcount()));
    return load_text(text, path);
}

} // namespace pointsman::config
