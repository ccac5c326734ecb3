// What HAProxy's master says of old workers (`show proc`), and what one of those answers: `show sess` alone, and with
// `show info` and `show servers state` before it.
#include "tests/fuzz/laws.hpp"

#include "runtime_api/old_worker.hpp"

#include <algorithm>
#include <span>
#include <string>

using namespace pointsman::runtime_api;
using namespace pointsman::fuzz;

namespace {

void check_sessions(std::span<const open_session> sessions) {
    for (const auto& s : sessions) {
        must(s.key.starts_with("0x") && s.key.size() > 2 && s.key.size() <= 18 &&
                 s.key.find_first_not_of("0123456789abcdef", 2) == std::string::npos,
             "a session's key is a hexadecimal number");
        must(slot_id::parse(s.slot.backend(), s.slot.server()) == s.slot, "a slot's name is one that HAProxy accepts");
    }
    std::size_t commands = 0;
    for (auto rest = sessions; !rest.empty();) {
        const std::string line = render_shutdown(1, rest);
        must(line.size() < 8100 && line.ends_with('\n') &&
                 !has_control(std::string_view(line).substr(0, line.size() - 1)),
             "the sessions are cut by lines that HAProxy reads whole");
        commands += static_cast<std::size_t>(std::ranges::count(line, ';')) + 1;
    }
    must(commands == sessions.size(), "each session is cut once");
}

void check_processes(std::string_view text) {
    const auto pids = parse_old_workers(text);
    if (!pids)
        return must_be_printable(pids.error().detail);
    for (const auto pid : *pids)
        must(pid > 0 && text.find(std::to_string(pid)) != std::string_view::npos, "a process has the id that was told");
}

void check_answer(std::string_view text) {
    const auto worker = parse_old_worker(text);
    if (!worker)
        return must_be_printable(worker.error().detail);
    if (!*worker)
        return;
    check_sessions((*worker)->sessions);
    // A dump of sessions has no end of its own: cut there it is shorter, but never other than it was.
    for (std::size_t length = 0; length != text.size(); ++length) {
        if (!cut_at(text, length))
            continue;
        const auto cut = parse_old_worker(text.substr(0, length));
        if (!cut || !*cut)
            continue;
        const auto& all = (*worker)->sessions;
        const auto& some = (*cut)->sessions;
        must((*cut)->slots == (*worker)->slots, "a cut answer has all slots, or is none");
        must(some.size() <= all.size() && std::equal(some.begin(), some.end(), all.begin()),
             "a cut answer has the first sessions");
    }
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto text = text_of(data, size);
    check_processes(text);
    check_answer(text);
    if (const auto sessions = parse_sessions(text))
        check_sessions(*sessions);
    else
        must_be_printable(sessions.error().detail);
    return 0;
}
