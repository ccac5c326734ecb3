// `show info;show servers state`: what HAProxy is and has, and the rows of its state file that are made of it.
#include "tests/fuzz/laws.hpp"

#include "runtime_api/server_state.hpp"
#include "runtime_api/state_file.hpp"

#include <algorithm>
#include <string>

using namespace pointsman::runtime_api;
using namespace pointsman::fuzz;

namespace {

void check(const slot& s) {
    must(slot_id::parse(s.id.backend(), s.id.server()) == s.id, "a slot's name is one that HAProxy accepts");
    must(s.id.server() != hold_server, "the server that holds connections is no slot");
    must(s.weight <= 256 && s.initial_weight <= 256, "a weight is at most 256");
    must(s.since_change.count() >= 0, "a slot's last change is not to come");
    if (s.where)
        must(address::parse(s.where->ip(), s.where->port()) == s.where, "an address is canonical");
}

// Empty lines after the one that ends the answer may be missing.
void check_prefixes(std::string_view whole) {
    while (whole.ends_with("\n\n\n"))
        whole.remove_suffix(1);
    for (std::size_t length = 0; length != whole.size(); ++length)
        if (cut_at(whole, length))
            must(!parse_observation(whole.substr(0, length)), "a cut answer is no answer");
}

void check_state_file(const observation& seen) {
    const state_rows rows = restorable_rows(seen.dump);
    must(rows.head.starts_with("1\n# ") && std::ranges::count(rows.head, '\n') == 2,
         "a state file begins with two lines");
    std::string file = rows.head;
    for (const auto& [backend, lines] : rows.of_backend) {
        must(!lines.empty() && lines.ends_with('\n'), "a backend in the state file has whole lines");
        for (std::string_view rest = lines; !rest.empty();) {
            const std::string_view line = take_line(rest);
            must(!has_control(line), "no control character reaches the state file");
            must(line.find("  ") == line.npos && !line.starts_with(' ') && !line.ends_with(' '),
                 "no column in the state file is empty");
        }
        file += lines;
    }
    const auto again = parse_servers_state(file);
    must(again.has_value(), "a state file is a dump that can be read");
    must(again->size() <= seen.slots.size(), "a state file has no rows of its own");
    for (const slot& s : *again) {
        must(std::ranges::any_of(seen.slots, [&s](const slot& o) { return o.id == s.id && o.where == s.where; }),
             "a slot has the address in the state file that it has in the dump");
        must(!s.check_configured || s.check_enabled, "no check is suspended in a state file");
    }
    must(restorable_rows(file).of_backend == rows.of_backend, "what can be restored stays as it is");
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto reply = text_of(data, size);
    const auto seen = parse_observation(reply);
    if (!seen) {
        must_be_printable(seen.error().detail);
        return 0;
    }
    must(!seen->process.stopping, "an old worker is not observed");
    must_be_printable(seen->process.version);
    must(reply.ends_with(seen->dump), "the dump is the end of the answer");
    for (const slot& s : seen->slots)
        check(s);
    const auto rows = parse_servers_state(seen->dump);
    must(rows && *rows == seen->slots, "the slots are those of the dump");
    if (const auto declared = parse_declarations(seen->dump); !declared)
        must_be_printable(declared.error().detail);
    else
        must(declared->size() == seen->slots.size(), "a slot has one declaration");
    check_prefixes(reply);
    check_state_file(*seen);
    return 0;
}
