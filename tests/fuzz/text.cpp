// The small ones, which everything else is made of: base64, the end of a prefix's range, texts made printable,
// addresses, names of slots. The first byte is a limit, or a port's low byte.
#include "tests/fuzz/laws.hpp"

#include "etcd_http/codec.hpp"
#include "etcd_http/patroni.hpp"
#include "runtime_api/address.hpp"
#include "runtime_api/server_state.hpp"

#include <string>

using namespace pointsman;
using namespace pointsman::fuzz;

namespace {

void check_base64(std::string_view text) {
    const std::string encoded = etcd_http::base64_encode(text);
    must(encoded.size() % 4 == 0, "base64 is padded");
    must(etcd_http::base64_decode(encoded) == text, "what was encoded is decoded");
    if (const auto decoded = etcd_http::base64_decode(text))
        must(etcd_http::base64_encode(*decoded) == text, "a text has one encoding");
}

void check_range(std::string_view text) {
    const std::string_view prefix = text.substr(0, text.size() / 2);
    const std::string end = etcd_http::prefix_end(prefix);
    const bool in_range = text >= prefix && (end == std::string(1, '\0') || text < end);
    must(in_range && text.starts_with(prefix), "a prefix's range holds the keys that begin with it");
    must(end == std::string(1, '\0') || !end.starts_with(prefix) || prefix.empty(), "a prefix's range ends behind it");
}

void check_printable(std::string_view text, std::size_t limit) {
    const std::string shown = etcd_http::printable(text, limit);
    must_be_printable(shown);
    must(shown.size() <= limit, "a printable text has a limit");
    must(shown.find('\'') == std::string::npos || shown.find("\\'") != std::string::npos, "quotes are escaped");
    for (std::size_t i = 0; i + 1 < shown.size(); ++i)
        must(!(shown[i] == '\xc2' && static_cast<unsigned char>(shown[i + 1]) < 0xa0), "no C1 control is shown");
    must_be_printable(runtime_api::excerpt(text));
}

void check_address(std::string_view text, std::uint32_t port) {
    const auto where = runtime_api::address::parse(text, port);
    if (!where)
        return;
    must(where->ip().find_first_not_of("0123456789abcdef.:") == std::string::npos, "an address is numeric");
    must(where->ip() != "0.0.0.0" && where->ip() != "::" && where->port() == port, "an address can be connected to");
    must(runtime_api::address::parse(where->ip(), port) == where, "an address is canonical");
}

void check_slot(std::string_view text) {
    const std::size_t slash = text.find('/');
    const auto id = runtime_api::slot_id::parse(text.substr(0, slash),
                                                slash == text.npos ? std::string_view() : text.substr(slash + 1));
    if (id)
        must(to_string(*id) == text && text.find_first_of(" ;\\\n'\"") == text.npos,
             "a name of a slot needs no escaping");
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    const auto text = text_of(data + 1, size - 1);
    check_base64(text);
    check_range(text);
    check_printable(text, data[0]);
    check_address(text, data[0]);
    check_slot(text);
    return 0;
}
