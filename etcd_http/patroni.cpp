#include "etcd_http/patroni.hpp"

#include <boost/url/ipv4_address.hpp>
#include <boost/url/ipv6_address.hpp>
#include <boost/url/parse_query.hpp>
#include <boost/url/rfc/ipv6_address_rule.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <utility>

namespace pointsman::etcd_http {

using nlohmann::json;

namespace {

// Patroni's own values are some hundred bytes.
constexpr std::size_t max_value = std::size_t{64} * 1024;
constexpr std::size_t max_name = 255;
constexpr std::size_t max_host = 253;

// The length of the well-formed UTF-8 character at the start of `text`; 0 where there is none.
std::size_t utf8_length(std::string_view text) {
    const auto byte = [text](std::size_t i) -> unsigned {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
    };
    const auto tail = [byte](std::size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
        return byte(i) >= low && byte(i) <= high;
    };
    const unsigned first = byte(0);
    if (text.empty())
        return 0;
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return tail(1) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) // no overlong forms, no surrogates
        return tail(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf) && tail(2) ? 3 : 0;
    if (first >= 0xf0 && first <= 0xf4) // nothing beyond U+10FFFF
        return tail(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf) && tail(2) && tail(3) ? 4 : 0;
    return 0;
}

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        if (length == 0)
            return false;
        text.remove_prefix(length);
    }
    return true;
}

// Characters that move the cursor or turn the direction of writing: C1 controls, U+2028 to U+202E, U+2066 to U+2069.
bool rearranges_text(std::string_view character) {
    if (character.size() == 2)
        return character[0] == '\xc2' && static_cast<unsigned char>(character[1]) < 0xa0;
    if (character.size() != 3 || character[0] != '\xe2')
        return false;
    const auto last = static_cast<unsigned char>(character[2]);
    return (character[1] == '\x80' && last >= 0xa8 && last <= 0xae) ||
           (character[1] == '\x81' && last >= 0xa6 && last <= 0xa9);
}

void append_escaped(std::string& out, std::string_view bytes) {
    constexpr std::string_view hex = "0123456789abcdef";
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '\n')
            out += "\\n";
        else if (c == '"' || c == '\'' || c == '\\')
            (out += '\\') += c;
        else
            ((out += "\\x") += hex[byte >> 4]) += hex[byte & 15];
    }
}

// Something usable, or the reason why not.
template<class T>
struct verdict_on {
    std::optional<T> value;
    std::string reason;
};

verdict_on<std::uint16_t> parse_port(std::string_view text) {
    unsigned long port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error == std::errc::invalid_argument || end != text.data() + text.size())
        return {{}, "port '" + printable(text) + "' is not a number"};
    if (error != std::errc() || port < 1 || port > 65535)
        return {{}, "port " + printable(text) + " is not in 1 to 65535"};
    return {static_cast<std::uint16_t>(port), {}};
}

bool is_host_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
           c == '_';
}

// 0.0.0.0 or ::, what a node listens on and nobody can reach it by; in IPv6's clothes (::ffff:0.0.0.0) too, for that is
// where a connection to it goes.
bool is_unspecified(std::string_view host) {
    const auto v6 = boost::urls::parse_ipv6_address(host);
    if (!v6)
        return host == "0.0.0.0";
    const auto bytes = v6->to_bytes();
    const bool is_v4 = v6->is_v4_mapped();
    return std::all_of(bytes.begin() + (is_v4 ? 12 : 0), bytes.end(), [](unsigned char byte) { return byte == 0; });
}

// `name`, `name:port`, `[v6]`, `[v6]:port`
verdict_on<host_port> parse_host_port(std::string_view text, std::uint16_t default_port) {
    std::string_view host;
    std::string_view port;
    if (text.starts_with('[')) {
        const std::size_t close = text.find(']');
        host = text.substr(1, close == text.npos ? text.npos : close - 1);
        port = close == text.npos ? std::string_view() : text.substr(close + 1);
        if (close == text.npos || !boost::urls::parse_ipv6_address(host) || (!port.empty() && port[0] != ':'))
            return {{}, "'" + printable(text) + "' is not an IPv6 address in brackets"};
        port.remove_prefix(port.empty() ? 0 : 1);
    } else {
        const std::size_t colon = text.find(':');
        host = text.substr(0, colon);
        port = colon == text.npos ? std::string_view() : text.substr(colon + 1);
        if (host.empty())
            return {{}, "no host"};
        if (host.size() > max_host)
            return {{}, "a host of " + std::to_string(host.size()) + " bytes is longer than 253"};
        if (!std::ranges::all_of(host, is_host_character))
            return {{}, "host '" + printable(host) + "' has characters that no host has"};
    }
    if (is_unspecified(host))
        return {{}, "host " + std::string(host) + " is no address to connect to"};
    if (port.empty())
        return {host_port{std::string(host), default_port}, {}};
    const auto number = parse_port(port);
    if (!number.value)
        return {{}, number.reason};
    return {host_port{std::string(host), *number.value}, {}};
}

struct url_parts {
    std::string_view scheme;
    std::string_view hosts; // without user and password
    // Never without an address: Boost.URL 1.81 crashes on that.
    std::string_view query{""}; // NOLINT(readability-redundant-string-init)
};

// Not a parser for URLs in general: libpq's lists of hosts (`h1,h2:5432`) are none.
std::optional<url_parts> split_url(std::string_view url) {
    const std::size_t colon = url.find("://");
    if (colon == url.npos)
        return std::nullopt;
    url_parts parts;
    parts.scheme = url.substr(0, colon);
    const std::string_view rest = url.substr(colon + 3);
    const std::size_t end = rest.find_first_of("/?#");
    const std::string_view authority = rest.substr(0, end);
    const std::size_t at = authority.rfind('@');
    parts.hosts = at == authority.npos ? authority : authority.substr(at + 1);
    const std::size_t question = rest.find('?');
    if (question != rest.npos)
        parts.query = rest.substr(question + 1, rest.find('#', question) - question - 1);
    return parts;
}

verdict_on<host_port> parse_postgres_url(std::string_view text) {
    const auto url = split_url(text);
    if (!url || (url->scheme != "postgres" && url->scheme != "postgresql"))
        return {{}, "not a postgres:// URL"}; // not quoted: old forms hold a password
    // The first usable host of the list; where there is none, the reason of the first.
    verdict_on<host_port> first;
    for (std::string_view hosts = url->hosts;;) {
        const std::size_t comma = hosts.find(',');
        auto one = parse_host_port(hosts.substr(0, comma), 5432);
        if (one.value)
            return one;
        if (first.reason.empty())
            first = std::move(one);
        if (comma == hosts.npos)
            return first;
        hosts.remove_prefix(comma + 1);
    }
}

verdict_on<rest_url> parse_rest_url(std::string_view text) {
    const auto url = split_url(text);
    if (!url || (url->scheme != "http" && url->scheme != "https"))
        return {{}, "not an http:// or https:// URL"};
    const bool tls = url->scheme == "https";
    auto where = parse_host_port(url->hosts, tls ? 443 : 80);
    if (!where.value)
        return {{}, std::move(where.reason)};
    return {rest_url{tls, std::move(*where.value)}, {}};
}

// Governor's form, which Patroni still reads: the value is the connection string itself and carries the REST API's URL
// as its application_name (facts 1.2). Returned as if it were today's JSON.
json from_governor(const std::string& value) {
    json fields = {{"conn_url", value}};
    const auto url = split_url(value);
    const auto query = boost::urls::parse_query(url ? url->query : "");
    if (query)
        for (const auto& parameter : *query)
            if (parameter.key.decode() == "application_name")
                fields["api_url"] = parameter.value.decode();
    return fields;
}

// Takes `digits` digits off the front of `text`.
std::optional<int> take_number(std::string_view& text, std::size_t digits) {
    int number = 0;
    if (text.size() < digits)
        return std::nullopt;
    const auto [end, error] = std::from_chars(text.data(), text.data() + digits, number);
    if (error != std::errc() || end != text.data() + digits || number < 0)
        return std::nullopt;
    text.remove_prefix(digits);
    return number;
}

bool take_character(std::string_view& text, std::string_view any_of) {
    if (text.empty() || any_of.find(text.front()) == any_of.npos)
        return false;
    text.remove_prefix(1);
    return true;
}

// `2026-11-22T23:05:09+02:00` as Python's isoformat() writes it, a fraction of the second included.
std::optional<std::chrono::sys_time<std::chrono::milliseconds>> parse_time(std::string_view text) {
    using namespace std::chrono;
    const auto year_number = take_number(text, 4);
    const bool dash = take_character(text, "-");
    const auto month_number = take_number(text, 2);
    const bool second_dash = take_character(text, "-");
    const auto day_number = take_number(text, 2);
    const bool separator = take_character(text, "T ");
    const auto hour = take_number(text, 2);
    const bool colon = take_character(text, ":");
    const auto minute = take_number(text, 2);
    const bool second_colon = take_character(text, ":");
    const auto second = take_number(text, 2);
    if (!year_number || !month_number || !day_number || !hour || !minute || !second || !dash || !second_dash ||
        !separator || !colon || !second_colon)
        return std::nullopt;
    const year_month_day date(year(*year_number), month(static_cast<unsigned>(*month_number)),
                              day(static_cast<unsigned>(*day_number)));
    if (!date.ok() || *hour > 23 || *minute > 59 || *second > 60)
        return std::nullopt;
    milliseconds fraction{};
    if (take_character(text, ".")) {
        const std::string_view digits = text.substr(0, text.find_first_not_of("0123456789"));
        text.remove_prefix(digits.size());
        for (std::size_t i = 0; i != 3; ++i)
            fraction = fraction * 10 + milliseconds(i < digits.size() ? digits[i] - '0' : 0);
    }

    minutes zone{};
    if (text != "Z") {
        const bool west = text.starts_with('-');
        const bool sign = take_character(text, "+-");
        const auto zone_hours = take_number(text, 2);
        take_character(text, ":");
        const auto zone_minutes = take_number(text, 2);
        if (!sign || !zone_hours || !zone_minutes || !text.empty())
            return std::nullopt;
        zone = hours(*zone_hours) + minutes(*zone_minutes);
        if (west)
            zone = -zone;
    }
    return sys_days(date) + hours(*hour) + minutes(*minute) + seconds(*second) + fraction - zone;
}

class cluster_parser {
public:
    cluster_parser(std::string_view prefix, std::int64_t revision) : prefix_(prefix) { view_.revision = revision; }

    void parse(const std::string& key, const key_value& kv) {
        if (!key.starts_with(prefix_))
            return;
        const std::string_view name = std::string_view(key).substr(prefix_.size());
        if (name == "leader")
            parse_leader(kv);
        else if (name == "status")
            parse_status(kv.value);
        else if (name == "optime/leader")
            parse_legacy_optime(kv.value);
        else if (name == "failover")
            parse_failover(kv);
        else if (name.starts_with("members/"))
            parse_member(name.substr(8), kv.value);
    }

    cluster_view finish() {
        if (!view_.optime)
            view_.optime = legacy_optime_;
        return std::move(view_);
    }

private:
    void refuse(std::string_view member, std::string reason) {
        view_.refusals.push_back({printable(member), std::move(reason)});
    }

    bool usable_name(std::string_view name, std::string_view of) {
        const char* fault = name.empty()             ? "empty"
                            : name.size() > max_name ? "longer than 255 bytes"
                            : !is_utf8(name)         ? "not UTF-8"
                                                     : nullptr;
        if (fault)
            refuse(name, std::string(of) + ": the name is " + fault);
        return !fault;
    }

    void parse_leader(const key_value& kv) {
        if (usable_name(kv.value, "leader"))
            view_.leader = leader_record{kv.value, kv.mod_revision};
    }

    // Absent on anything that is not Patroni's own form: nothing may be decided on a guess of the WAL's position.
    void parse_status(const std::string& value) {
        const json fields = parse_object(value, "", "status");
        const auto optime = fields.find("optime");
        if (optime == fields.end())
            return;
        if (const auto* number = optime->get_ptr<const json::number_unsigned_t*>())
            view_.optime = *number;
        else
            refuse("", "status: optime is not a positive number");
    }

    void parse_legacy_optime(const std::string& value) {
        std::uint64_t number = 0;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
        if (error == std::errc() && end == value.data() + value.size())
            legacy_optime_ = number;
        else
            refuse("", "optime/leader: '" + printable(value) + "' is not a number");
    }

    // A failover without a leader to leave is no switchover. A time that cannot be read means that it cannot be
    // foreseen.
    void parse_failover(const key_value& kv) {
        const json fields = parse_object(kv.value, "", "failover");
        const std::string* leader = find_text(fields, "", "leader");
        if (!leader || !usable_name(*leader, "failover"))
            return;
        switchover_record asked{.leader = *leader, .scheduled_at = {}, .revision = kv.mod_revision};
        if (fields.contains("scheduled_at")) {
            const std::string* at = find_text(fields, "", "scheduled_at");
            asked.scheduled_at = at ? parse_time(*at) : std::nullopt;
            if (at && !asked.scheduled_at)
                refuse("", "failover: scheduled_at is not a time with a zone");
            if (!asked.scheduled_at)
                return;
        }
        view_.switchover = std::move(asked);
    }

    void parse_member(std::string_view name, const std::string& value) {
        if (name.find('/') != name.npos) {
            refuse(name, "members: a name with a slash, which Patroni itself ignores");
            return;
        }
        if (!usable_name(name, "members"))
            return;
        const json fields = value.starts_with("postgres") && value.size() <= max_value
                                ? from_governor(value)
                                : parse_object(value, name, "value");
        member_record member;
        member.name = name;
        take_url(fields, name, "conn_url", parse_postgres_url, member.connect);
        take_url(fields, name, "proxy_url", parse_postgres_url, member.proxy);
        take_url(fields, name, "api_url", parse_rest_url, member.rest);
        take_text(fields, name, "state", member.state);
        take_text(fields, name, "role", member.role);
        view_.members.emplace(member.name, std::move(member));
    }

    // An empty object on anything that is none, as Patroni does: the member exists, though nothing is known of it.
    json parse_object(const std::string& value, std::string_view member, const std::string& what) {
        if (value.size() > max_value) {
            refuse(member, what + ": " + std::to_string(value.size()) + " bytes are more than 65536");
            return json::object();
        }
        json fields = json::parse(value, nullptr, false);
        if (fields.is_object() && value.find('\0') == value.npos) // the library would read no further
            return fields;
        refuse(member, what + ": not a JSON object");
        return json::object();
    }

    const std::string* find_text(const json& fields, std::string_view member, const char* name) {
        const auto field = fields.find(name);
        if (field == fields.end())
            return nullptr;
        const auto* text = field->get_ptr<const std::string*>();
        if (!text)
            refuse(member, std::string(name) + ": not a string");
        return text;
    }

    void take_text(const json& fields, std::string_view member, const char* name, std::string& to) {
        if (const std::string* text = find_text(fields, member, name))
            to = *text;
    }

    template<class T>
    void take_url(const json& fields, std::string_view member, const char* name,
                  verdict_on<T> (*parse_url)(std::string_view), std::optional<T>& to) {
        const std::string* text = find_text(fields, member, name);
        if (!text)
            return;
        auto parsed = parse_url(*text);
        if (!parsed.value)
            refuse(member, std::string(name) + ": " + parsed.reason);
        to = std::move(parsed.value);
    }

    std::string_view prefix_;
    cluster_view view_;
    std::optional<std::uint64_t> legacy_optime_;
};

} // namespace

cluster_view parse_cluster(const std::map<std::string, key_value>& keys, std::string_view prefix,
                           std::int64_t revision) {
    cluster_parser parser(prefix, revision);
    for (const auto& [key, kv] : keys)
        parser.parse(key, kv);
    return parser.finish();
}

std::string printable(std::string_view text, std::size_t limit) {
    constexpr std::string_view cut = "...";
    std::string out;
    std::size_t room_for_cut = 0; // the longest beginning of `out` that leaves room for the mark
    while (!text.empty()) {
        const std::size_t length = std::max<std::size_t>(utf8_length(text), 1);
        const std::string_view character = text.substr(0, length);
        const auto first = static_cast<unsigned char>(text[0]);
        const bool plain = utf8_length(text) != 0 && first >= ' ' && first != 0x7f && !rearranges_text(character) &&
                           character != "\"" && character != "'" && character != "\\";
        if (plain)
            out += character;
        else
            append_escaped(out, character);
        if (out.size() > limit) {
            out.resize(room_for_cut);
            return out += cut.substr(0, limit - room_for_cut);
        }
        if (out.size() + cut.size() <= limit)
            room_for_cut = out.size();
        text.remove_prefix(length);
    }
    return out;
}

} // namespace pointsman::etcd_http
