// Pure: etcd's v3 JSON gateway as text: requests out of values, values out of replies (facts 5.1 to 5.7).
//
// The gateway leaves out whatever is zero, empty or false and writes 64-bit integers as strings, so every field is
// optional and one of a wrong type is as good as absent. The exception is what would make a set of keys look smaller
// than it is (a key that cannot be read, a reply without a revision): that is errc::malformed as a whole.
//
// Failures made here say what, not who: the caller knows which endpoint it asked.
#pragma once

#include "etcd_http/error.hpp"
#include "etcd_http/patroni.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::etcd_http {

// Standard alphabet, padded: etcd refuses every other form (facts 5.1).
std::string base64_encode(std::string_view bytes);
std::optional<std::string> base64_decode(std::string_view text);

// The end of the range of all keys that begin with `prefix`: its successor of the same length or shorter, or "\0" (no
// end) where there is none.
std::string prefix_end(std::string_view prefix);

std::string range_request(std::string_view prefix);
std::string watch_request(std::string_view prefix, std::int64_t start_revision);
std::string authenticate_request(const std::string& user, const std::string& password);

struct reply_header {
    std::uint64_t cluster_id{};
    std::int64_t revision{};
    std::uint64_t raft_term{};
};

struct range_reply {
    reply_header header;
    std::map<std::string, key_value> keys;
};

struct key_event {
    bool deleted{};
    std::string key;
    key_value now; // of a delete: an empty value and the revision that deleted it
};

// One message of a watch. Without events it is the answer to `created` or `canceled`, or a progress notification.
struct watch_message {
    reply_header header;
    bool created{};
    bool canceled{};
    std::int64_t compact_revision{}; // with `canceled`: the start revision is older than this
    std::string cancel_reason;
    std::vector<key_event> events;
};

result<range_reply> parse_range(std::string_view body);

// An error object in the stream is a failure; a cancelled watch is a message.
result<watch_message> parse_watch(std::string_view line);

// Why a watch with `canceled` was cancelled.
failure cancellation(const watch_message& message);

// The token.
result<std::string> parse_authenticate(std::string_view body);

// What a reply with a status other than 200 says: etcd's error object in the form of any version (facts 5.7), or the
// plain text of a server that has no gateway at this address.
failure parse_error(unsigned status, std::string_view body);

// By message, where it decides, else by gRPC code: texts are the same in every version and also stand in
// `cancel_reason`, which has no code.
errc classify(int grpc_code, std::string_view message);

// `/v3`, or what the older gateway of this `GET /version` uses (facts 5.0).
std::string gateway_prefix(std::string_view version_body);

// Cuts a watch's body into messages, however it arrives in pieces: each ends with a line feed, except for the error
// object that may end the stream (facts 5.3).
class line_splitter {
public:
    explicit line_splitter(std::size_t limit) : limit_(limit) {}

    void feed(std::string_view piece);

    // The next whole line, without its end; valid until the next `feed`.
    std::optional<std::string_view> next();

    // A line longer than the limit came: nothing more is delivered.
    bool overflowed() const { return overflowed_; }

    // What is left when the stream has ended.
    std::string_view rest() const { return std::string_view(buffer_).substr(begin_); }

private:
    std::size_t limit_;
    std::string buffer_;
    std::size_t begin_{};   // of the line under way
    std::size_t scanned_{}; // up to here there is no line feed in it
    bool overflowed_{};
};

} // namespace pointsman::etcd_http
