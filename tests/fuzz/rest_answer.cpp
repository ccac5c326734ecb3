// What Patroni's REST API answers, and what a member's health is made of it. Each line is one probe: `200
// {"state":...}`, or a body alone for a probe without a complete answer, whose first character says whether
// PostgreSQL's port was open
// (`o`), refused (`r`), or was not tried.
#include "tests/fuzz/laws.hpp"

#include "agent/health.hpp"
#include "agent/rest_answer.hpp"

#include <nlohmann/json.hpp>

#include <charconv>
#include <chrono>
#include <string>

using namespace pointsman::agent;
using namespace pointsman::fuzz;
using pointsman::config::pool_role;

namespace {

void check_body(const rest_body& body) {
    nlohmann::json object = {{"state", body.state}, {"role", body.role}};
    if (body.wal)
        object["xlog"]["location"] = *body.wal;
    if (body.replication_state)
        object["replication_state"] = *body.replication_state;
    if (body.timeline)
        object["timeline"] = *body.timeline;
    must(parse_rest_body(object.dump()) == body, "what was read is written and read again as it was");
}

outcome outcome_of(std::string_view line, time_point now) {
    outcome o{.sent = now,
              .received = now + std::chrono::milliseconds(3),
              .status = {},
              .body = {},
              .postgres_open = {},
              .detail = "no answer in 1000 ms"};
    unsigned status = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), status);
    if (error == std::errc()) {
        o.status = status;
        o.body = parse_rest_body(line.substr(static_cast<std::size_t>(end - line.data())));
    } else if (line.starts_with('o') || line.starts_with('r')) {
        o.postgres_open = line.front() == 'o';
    }
    return o;
}

void check_verdict(pool_role role, const outcome& o, const health& before, const health& after) {
    const verdict v = judge(role, o);
    must(after.answered && after.last == v, "the newest probe's verdict is kept");
    must(after.in_a_row == (before.answered && before.last.what == v.what ? before.in_a_row + 1 : 1),
         "probes in a row are counted");
    if (v.what == answer::yes)
        must(o.status == 200U, "nothing but a 200 is a yes");
    if (v.what == answer::yes && role == pool_role::primary)
        must(o.body && o.body->state == "running" && (o.body->role == "master" || o.body->role == "primary"),
             "only a body makes a writer (R2)");
    must((v.what == answer::unknown) == (!is_answer(o) && o.postgres_open != false),
         "unknown is what was not answered and is not dead (R3)");
    must(v.how != refusal::dead || v.what == answer::no, "only a no is dead");
    must_be_printable(describe(after));
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto text = text_of(data, size);
    if (const auto body = parse_rest_body(text)) {
        check_body(*body);
        must(text.find('\0') == text.npos, "a NUL hides nothing");
    }
    health primary;
    health replica;
    for (time_point now{std::chrono::hours(1)}; !text.empty(); now += std::chrono::seconds(1)) {
        const outcome o = outcome_of(take_line(text), now);
        if (o.body)
            check_body(*o.body);
        for (const auto role : {pool_role::primary, pool_role::replica}) {
            health& h = role == pool_role::primary ? primary : replica;
            const health before = h;
            step(h, role, o);
            check_verdict(role, o, before, h);
        }
    }
    return 0;
}
