// `show stat`: HAProxy's statistics as CSV.
#include "tests/fuzz/laws.hpp"

#include "runtime_api/server_state.hpp"

#include <string>

using namespace pointsman::runtime_api;
using namespace pointsman::fuzz;

namespace {

std::string quoted(const std::string& field) {
    std::string out = "\"";
    for (const char c : field)
        out += c == '"' ? std::string("\"\"") : std::string(1, c);
    return out + '"';
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto text = text_of(data, size);
    if (const auto backends = parse_backends(text); !backends)
        must_be_printable(backends.error().detail);
    const auto servers = parse_stat(text);
    if (!servers) {
        must_be_printable(servers.error().detail);
        return 0;
    }
    for (std::size_t length = 0; length != text.size(); ++length)
        if (cut_at(text, length))
            must(!parse_stat(text.substr(0, length)), "a cut dump is no dump");

    // What was read, written as HAProxy writes it.
    std::string csv = "# pxname,svname,scur,status,type,\n";
    for (const auto& s : *servers)
        csv += quoted(s.backend) + ',' + quoted(s.server) + ',' + std::to_string(s.sessions) + ',' + quoted(s.status) +
               ",2,\n";
    const auto again = parse_stat(csv + '\n');
    must(again && again->size() == servers->size(), "what was read can be written and read again");
    for (std::size_t i = 0; i != servers->size(); ++i) {
        const auto& [backend, server, status, sessions] = (*servers)[i];
        const auto& other = (*again)[i];
        must(other.backend == backend && other.server == server && other.status == status && other.sessions == sessions,
             "what was read and written is what is read again");
    }
    return 0;
}
