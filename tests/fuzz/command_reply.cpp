// The answers to commands. The first character chooses what was asked (1 to 3: so many silent commands, 4 and 6: an
// address of that family), the rest is HAProxy's answer.
#include "tests/fuzz/laws.hpp"

#include "runtime_api/command.hpp"

#include <string>
#include <vector>

using namespace pointsman::runtime_api;
using namespace pointsman::fuzz;

namespace {

const slot_id pg1 = *slot_id::parse("primary", "pg1");

std::vector<command> commands_of(char choice) {
    std::vector<command> silent{set_state{pg1, admin_state::maint}, shutdown_sessions{pg1}, set_check{pg1, true}};
    switch (choice) {
        case '1':
        case '2': silent.erase(silent.begin() + (choice - '0'), silent.end()); return silent;
        case '4': return {set_address{pg1, *address::parse("10.0.0.1", 5432)}};
        case '6': return {set_address{pg1, *address::parse("fd00::1", 1)}};
        default: return silent;
    }
}

bool takes(std::string_view& text, std::string_view beginning) {
    if (!text.starts_with(beginning))
        return false;
    text.remove_prefix(beginning.size());
    return true;
}

// `'...'`, of anything without a quote and a control character.
bool takes_quoted(std::string_view& text, std::string_view& what) {
    const std::size_t end = text.find('\'', 1);
    if (!text.starts_with('\'') || end == std::string_view::npos)
        return false;
    what = text.substr(1, end - 1);
    text.remove_prefix(end + 1);
    return !what.empty() && !has_control(what);
}

bool takes_change(std::string_view& text, std::string_view beginning, std::string_view wanted) {
    std::string_view old;
    std::string_view now;
    return takes(text, beginning) && takes_quoted(text, old) && takes(text, " to ") && takes_quoted(text, now) &&
           now == wanted;
}

// The grammar of facts 1.3 read from the left, where command.cpp compares both ends: what passes there must pass here.
bool says_changed(std::string_view reply, const address& where) {
    if (takes(reply, "nothing changed"))
        return reply == "\n\n" || reply == " by 'stats socket command'\n\n";
    const std::string port = std::to_string(where.port());
    if (reply.starts_with("port ")) {
        if (!takes_change(reply, "port changed from ", port))
            return false;
    } else {
        const bool unchanged = takes(reply, "no need to change the addr");
        if (!unchanged && !takes_change(reply, "IP changed from ", where.ip()))
            return false;
        const bool names_port = takes(reply, ", ");
        if (unchanged && !names_port)
            return false;
        if (names_port && !takes(reply, "no need to change the port") &&
            !takes_change(reply, "port changed from ", port))
            return false;
    }
    takes(reply, " by 'stats socket command'");
    return reply == "\n\n";
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto text = text_of(data, size);
    const auto batch = commands_of(text.empty() ? '3' : text.front());
    const auto reply = text.substr(text.empty() ? 0 : 1);

    const auto done = check_reply(batch, reply);
    if (!done) {
        must(done.error().kind == errc::refused || done.error().kind == errc::stopping, "what is not done is refused");
        must_be_printable(done.error().detail);
        must(done.error().detail.size() < 400, "a refusal is short");
        return 0;
    }
    const auto* change = std::get_if<set_address>(&batch.front());
    if (change)
        must(says_changed(reply, change->where), "only HAProxy's own words of success are success");
    else
        must(reply == std::string(batch.size(), '\n'), "only silence is success of a silent command");
    for (std::size_t length = 0; length != reply.size(); ++length)
        must(!check_reply(batch, reply.substr(0, length)), "a cut answer is no success");
    must(!check_reply(batch, std::string(reply) + '\n'), "a longer answer is no success");
    return 0;
}
