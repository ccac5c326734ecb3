// The replies of etcd's gateway that come whole: a range, a token, an error, the version.
#include "tests/fuzz/laws.hpp"

#include "etcd_http/codec.hpp"

#include <algorithm>
#include <limits>
#include <string>

using namespace pointsman::etcd_http;
using namespace pointsman::fuzz;

namespace {

constexpr std::int64_t last_revision = std::numeric_limits<std::int64_t>::max();

// As etcd 3.4 writes it.
std::string written(const range_reply& reply) {
    std::string kvs;
    for (const auto& [key, kv] : reply.keys)
        kvs += (kvs.empty() ? "" : ",") + std::string(R"({"key":")") + base64_encode(key) + R"(","mod_revision":")" +
               std::to_string(kv.mod_revision) + R"(","value":")" + base64_encode(kv.value) + "\"}";
    const reply_header& header = reply.header;
    return R"({"header":{"cluster_id":")" + std::to_string(header.cluster_id) + R"(","revision":")" +
           std::to_string(header.revision) + R"(","raft_term":")" + std::to_string(header.raft_term) + R"("},"kvs":[)" +
           kvs + R"(],"count":")" + std::to_string(reply.keys.size()) + "\"}";
}

void check_range(std::string_view body) {
    const auto reply = parse_range(body);
    if (!reply) {
        must(reply.error().kind == errc::malformed, "a range that cannot be read is malformed");
        return must_be_printable(reply.error().detail);
    }
    must(reply->header.cluster_id != 0 && reply->header.revision > 0 && reply->header.revision < last_revision,
         "a store has an id and a revision that another can follow");
    for (const auto& [key, kv] : reply->keys)
        must(!key.empty() && kv.mod_revision > 0 && kv.mod_revision < last_revision,
             "a key has a name and a revision that another can follow");
    const auto again = parse_range(written(*reply));
    must(again && again->keys == reply->keys && again->header.cluster_id == reply->header.cluster_id &&
             again->header.revision == reply->header.revision && again->header.raft_term == reply->header.raft_term,
         "what was read is written and read again as it was");
    const std::size_t last = body.find_last_of('}');
    for (std::size_t length = 0; length <= last; ++length)
        if (cut_at(body, length))
            must(!parse_range(body.substr(0, length)), "a cut reply is no reply");
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto body = text_of(data, size);
    check_range(body);
    if (const auto token = parse_authenticate(body))
        must(!token->empty() && std::ranges::all_of(*token, [](char c) { return c > ' ' && c <= '~'; }),
             "a token is fit for a header's line");
    for (const unsigned status : {200U, 401U, 404U, 503U}) {
        const failure why = parse_error(status, body);
        must_be_printable(why.detail);
        must(why.detail.size() < 400, "an error is short");
    }
    const std::string prefix = gateway_prefix(body);
    must(prefix == "/v3" || prefix == "/v3beta" || prefix == "/v3alpha", "a gateway has one of three prefixes");
    return 0;
}
