#include "etcd_http/codec.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <charconv>
#include <concepts>
#include <limits>
#include <utility>

namespace pointsman::etcd_http {

using nlohmann::json;

namespace {

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::uint32_t byte_of(char c) {
    return static_cast<unsigned char>(c);
}

constexpr auto digit_values = [] {
    std::array<signed char, 256> values{};
    values.fill(-1);
    for (std::size_t i = 0; i < alphabet.size(); ++i)
        values[byte_of(alphabet[i])] = static_cast<signed char>(i);
    return values;
}();

// etcd's own messages are six levels deep.
constexpr int max_depth = 32;

bool too_deep(std::string_view text) {
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\')
                ++i;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > max_depth)
                return true;
        } else if (c == '}' || c == ']') {
            --depth;
        }
    }
    return false;
}

// `discarded` where the text is not JSON. A NUL is the end for the library, whatever stands behind it.
json parse_json(std::string_view text) {
    if (too_deep(text) || text.find('\0') != text.npos)
        return json(json::value_t::discarded);
    return json::parse(text, nullptr, false);
}

const json* find(const json& object, const char* name) {
    if (!object.is_object())
        return nullptr;
    const auto it = object.find(name);
    return it == object.end() ? nullptr : &*it;
}

const std::string* find_text(const json& object, const char* name) {
    const json* field = find(object, name);
    return field ? field->get_ptr<const std::string*>() : nullptr;
}

std::string text_of(const json& object, const char* name) {
    const std::string* text = find_text(object, name);
    return text ? *text : std::string();
}

bool flag_of(const json& object, const char* name) {
    const json* field = find(object, name);
    return field && field->is_boolean() && field->get<bool>();
}

// A number, or a string that holds one.
template<std::integral Int>
Int integer_of(const json& object, const char* name) {
    const json* field = find(object, name);
    if (!field)
        return 0;
    if (const auto* text = field->get_ptr<const std::string*>()) {
        Int value{};
        const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
        return error == std::errc() && end == text->data() + text->size() ? value : 0;
    }
    if (const auto* number = field->get_ptr<const json::number_unsigned_t*>())
        return std::in_range<Int>(*number) ? static_cast<Int>(*number) : 0;
    if (const auto* number = field->get_ptr<const json::number_integer_t*>())
        return std::in_range<Int>(*number) ? static_cast<Int>(*number) : 0;
    return 0;
}

// 0, which no store has, where it cannot be read: the last one that 64 bits hold is none either, for a watch begins at
// the one after it.
std::int64_t revision_of(const json& object, const char* name) {
    const auto revision = integer_of<std::int64_t>(object, name);
    return revision > 0 && revision < std::numeric_limits<std::int64_t>::max() ? revision : 0;
}

reply_header header_of(const json& object) {
    reply_header header;
    if (const json* fields = find(object, "header")) {
        header.cluster_id = integer_of<std::uint64_t>(*fields, "cluster_id");
        header.revision = revision_of(*fields, "revision");
        header.raft_term = integer_of<std::uint64_t>(*fields, "raft_term");
    }
    return header;
}

// An absent field is an empty string: etcd leaves out empty values.
std::optional<std::string> bytes_of(const json& object, const char* name) {
    const json* field = find(object, name);
    if (!field)
        return std::string();
    const auto* text = field->get_ptr<const std::string*>();
    return text ? base64_decode(*text) : std::nullopt;
}

struct named_value {
    std::string key;
    key_value value;
};

std::optional<named_value> key_value_of(const json& object) {
    auto key = bytes_of(object, "key");
    auto value = bytes_of(object, "value");
    const auto mod_revision = revision_of(object, "mod_revision");
    if (!key || key->empty() || !value || mod_revision == 0)
        return std::nullopt;
    return named_value{std::move(*key), {std::move(*value), mod_revision}};
}

failure malformed(std::string what) {
    return {errc::malformed, std::move(what)};
}

struct error_text {
    int code{};
    std::string message;
};

// All four shapes of facts 5.7; nullopt where `root` is none of them.
std::optional<error_text> error_of(const json& root) {
    const json* nested = find(root, "error");
    const json& object = nested && nested->is_object() ? *nested : root;
    error_text error;
    error.code = integer_of<int>(object, "grpc_code");
    if (error.code == 0)
        error.code = integer_of<int>(object, "code");
    error.message = text_of(object, "message");
    if (error.message.empty())
        error.message = text_of(object, "error");
    if (error.code == 0 && error.message.empty())
        return std::nullopt;
    return error;
}

std::string readable(std::string_view text) {
    while (!text.empty() && text.back() == '\n')
        text.remove_suffix(1);
    return printable(text, 200);
}

} // namespace

std::string base64_encode(std::string_view bytes) {
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 3; ++k)
            group = group << 8 | (k < count ? byte_of(bytes[i + k]) : 0);
        for (std::size_t k = 0; k < 4; ++k)
            text += k <= count ? alphabet[group >> (18 - 6 * k) & 63] : '=';
    }
    return text;
}

std::optional<std::string> base64_decode(std::string_view text) {
    if (text.size() % 4 != 0)
        return std::nullopt;
    std::string bytes;
    bytes.reserve(text.size() / 4 * 3);
    for (std::size_t i = 0; i < text.size(); i += 4) {
        std::string_view digits = text.substr(i, 4);
        if (i + 4 == text.size() && digits.ends_with('='))
            digits.remove_suffix(digits.ends_with("==") ? 2 : 1);
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 4; ++k) {
            const int value = k < digits.size() ? digit_values[byte_of(digits[k])] : 0;
            if (value < 0)
                return std::nullopt;
            group = group << 6 | static_cast<std::uint32_t>(value);
        }
        // A padded group whose unused bits are not zero was cut or forged.
        if (group & (0xffffffu >> (8 * (digits.size() - 1))))
            return std::nullopt;
        for (std::size_t k = 0; k + 1 < digits.size(); ++k)
            bytes += static_cast<char>(group >> (16 - 8 * k) & 0xff);
    }
    return bytes;
}

std::string prefix_end(std::string_view prefix) {
    std::string end(prefix);
    while (!end.empty() && end.back() == '\xff')
        end.pop_back();
    if (end.empty())
        return std::string(1, '\0');
    end.back() = static_cast<char>(byte_of(end.back()) + 1);
    return end;
}

std::string range_request(std::string_view prefix) {
    const json request = {{"key", base64_encode(prefix)}, {"range_end", base64_encode(prefix_end(prefix))}};
    return request.dump();
}

std::string watch_request(std::string_view prefix, std::int64_t start_revision) {
    // Without the wrapper etcd answers nothing at all, for ever (facts 5.3).
    const json create = {{"key", base64_encode(prefix)},
                         {"range_end", base64_encode(prefix_end(prefix))},
                         {"start_revision", std::to_string(start_revision)}};
    return json{{"create_request", create}}.dump();
}

std::string authenticate_request(const std::string& user, const std::string& password) {
    const json request = {{"name", user}, {"password", password}};
    // A password that is not UTF-8 is refused by etcd rather than by an exception here.
    return request.dump(-1, ' ', false, json::error_handler_t::replace);
}

result<range_reply> parse_range(std::string_view body) {
    const json root = parse_json(body);
    if (!root.is_object())
        return malformed("the reply to a range is not a JSON object");
    range_reply reply;
    reply.header = header_of(root);
    // A store has an id and a revision of at least 1: without them this is somebody else's JSON, not an empty store.
    if (reply.header.cluster_id == 0 || reply.header.revision == 0)
        return malformed("the reply to a range has no cluster_id or no revision");
    if (const json* kvs = find(root, "kvs")) {
        if (!kvs->is_array())
            return malformed("`kvs` is not an array");
        for (const json& kv : *kvs) {
            auto named = key_value_of(kv);
            if (!named)
                return malformed("a key that cannot be read");
            reply.keys.insert_or_assign(std::move(named->key), std::move(named->value));
        }
    }
    if (flag_of(root, "more") || integer_of<std::uint64_t>(root, "count") != reply.keys.size())
        return malformed("the reply to a range does not hold every key");
    return reply;
}

result<watch_message> parse_watch(std::string_view line) {
    const json root = parse_json(line);
    if (find(root, "error")) {
        const auto error = error_of(root);
        if (!error)
            return malformed("an error of a watch that cannot be read");
        return failure{classify(error->code, error->message), "watch: " + readable(error->message)};
    }
    const json* fields = find(root, "result");
    if (!fields || !fields->is_object())
        return malformed("a watch message without `result`");
    watch_message message;
    message.header = header_of(*fields);
    message.created = flag_of(*fields, "created");
    message.canceled = flag_of(*fields, "canceled");
    message.compact_revision = revision_of(*fields, "compact_revision");
    message.cancel_reason = text_of(*fields, "cancel_reason");
    if (const json* events = find(*fields, "events")) {
        if (!events->is_array())
            return malformed("`events` is not an array");
        for (const json& event : *events) {
            const json* kv = find(event, "kv");
            auto named = kv ? key_value_of(*kv) : std::nullopt;
            const std::string type = find(event, "type") ? text_of(event, "type") : "PUT";
            if (!named || (type != "PUT" && type != "DELETE"))
                return malformed("an event that cannot be read");
            message.events.push_back({type == "DELETE", std::move(named->key), std::move(named->value)});
        }
    }
    return message;
}

failure cancellation(const watch_message& message) {
    if (message.compact_revision > 0) // 3.4.23 gives no reason with it
        return {errc::compacted, "watch: the revision is compacted up to " + std::to_string(message.compact_revision)};
    if (message.cancel_reason.empty())
        return malformed("watch: cancelled without a reason");
    return {classify(0, message.cancel_reason), "watch: cancelled: " + readable(message.cancel_reason)};
}

result<std::string> parse_authenticate(std::string_view body) {
    std::string token = text_of(parse_json(body), "token");
    // It goes into a header line: what no token of etcd's has is refused.
    for (const char c : token)
        if (c <= ' ' || c > '~')
            return malformed("authenticate: a token with odd characters");
    if (token.empty())
        return malformed("authenticate: a reply without a token");
    return token;
}

failure parse_error(unsigned status, std::string_view body) {
    const std::string http = "HTTP " + std::to_string(status) + ": ";
    if (const auto error = error_of(parse_json(body)))
        return {classify(error->code, error->message), http + readable(error->message)};
    const std::string text = http + readable(body);
    if (status == 404) // text, not JSON: etcd's listener without its gateway answers like this (facts 5.0)
        return {errc::unusable, text + " (the JSON gateway is disabled: enable-grpc-gateway in etcd's configuration)"};
    if (status == 421)
        return {errc::unusable, text + " (the Host is not in etcd's --host-whitelist)"};
    if (status >= 500)
        return {errc::unreachable, text};
    if (status >= 400)
        return {errc::unusable, text};
    return malformed(text);
}

errc classify(int grpc_code, std::string_view message) {
    struct known_text {
        std::string_view text;
        errc kind;
    };
    static constexpr std::array known{
        known_text{"user name is empty", errc::unauthorised},
        known_text{"invalid auth token", errc::unauthorised},
        known_text{"revision of auth store is old", errc::unauthorised},
        known_text{"authentication failed", errc::denied},
        known_text{"permission denied", errc::denied},
        known_text{"has been compacted", errc::compacted},
        known_text{"is a future revision", errc::stale},
        known_text{"no leader", errc::no_leader},
        known_text{"leader changed", errc::no_leader},
        known_text{"deadline exceeded", errc::timeout},
    };
    for (const known_text& one : known)
        if (message.find(one.text) != std::string_view::npos)
            return one.kind;
    switch (grpc_code) {
        case 4: return errc::timeout;
        case 5: // 3.6 says so, as JSON, of a path it does not have
        case 9:
        case 12: return errc::unusable;
        case 7: return errc::denied;
        case 8: // `too many requests`: this member is busy
        case 14: return errc::no_leader;
        case 16: return errc::unauthorised;
        default: return errc::malformed;
    }
}

std::string gateway_prefix(std::string_view version_body) {
    // The cluster's version, not the member's: it is what decides during an upgrade.
    const std::string version = text_of(parse_json(version_body), "etcdcluster");
    if (!version.starts_with("3."))
        return "/v3";
    unsigned minor = 0;
    const auto [end, error] = std::from_chars(version.data() + 2, version.data() + version.size(), minor);
    if (error != std::errc() || minor >= 4)
        return "/v3";
    return minor == 3 ? "/v3beta" : "/v3alpha";
}

void line_splitter::feed(std::string_view piece) {
    buffer_.erase(0, begin_);
    scanned_ -= begin_;
    begin_ = 0;
    if (!overflowed_)
        buffer_ += piece;
}

std::optional<std::string_view> line_splitter::next() {
    if (overflowed_)
        return std::nullopt;
    const std::size_t end = buffer_.find('\n', scanned_);
    const bool whole = end != std::string::npos;
    if ((whole ? end : buffer_.size()) - begin_ > limit_) {
        overflowed_ = true;
        buffer_.clear();
        begin_ = scanned_ = 0;
        return std::nullopt;
    }
    if (!whole) {
        scanned_ = buffer_.size();
        return std::nullopt;
    }
    const auto line = std::string_view(buffer_).substr(begin_, end - begin_);
    begin_ = scanned_ = end + 1;
    return line;
}

} // namespace pointsman::etcd_http
