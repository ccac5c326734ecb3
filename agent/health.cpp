// Pure: see health.hpp.
#include "agent/health.hpp"

#include "etcd_http/patroni.hpp"

#include <fmt/format.h>

namespace pointsman::agent {

namespace {

bool runs_as_primary(const rest_body& body) {
    return body.state == "running" && (body.role == "master" || body.role == "primary");
}

verdict judge_primary(unsigned status, const std::optional<rest_body>& body) {
    if (!body || body->state.empty())
        return {answer::no, refusal::soft, false}; // a status alone never makes a writer (R2)
    if (runs_as_primary(*body))
        return status == 200 ? verdict{answer::yes, {}, false} : verdict{answer::no, refusal::soft, false};
    return {answer::no, body->state == "stopping" ? refusal::stopping : refusal::otherwise, false};
}

verdict judge_replica(unsigned status, const std::optional<rest_body>& body) {
    const bool streams = !body || !body->replication_state || *body->replication_state == "streaming";
    if (status == 200)
        return streams ? verdict{answer::yes, {}, false} : verdict{answer::no, refusal::soft, false};
    return {answer::no, body && body->state == "stopping" ? refusal::stopping : refusal::soft, false};
}

} // namespace

std::string_view to_string(answer a) {
    switch (a) {
        case answer::yes: return "yes";
        case answer::no: return "no";
        case answer::unknown: return "unknown";
    }
    return "?";
}

bool is_answer(const outcome& o) {
    return o.status && !(o.body && o.body->state == "unknown");
}

verdict judge(config::pool_role role, const outcome& o) {
    if (!is_answer(o)) {
        if (o.postgres_open == false)
            return {answer::no, refusal::dead, false};
        return {answer::unknown, {}, !o.status && !o.postgres_open};
    }
    return role == config::pool_role::primary ? judge_primary(*o.status, o.body) : judge_replica(*o.status, o.body);
}

void step(health& h, config::pool_role role, outcome o) {
    const verdict now = judge(role, o);
    if (h.answered && h.last.what == now.what) {
        ++h.in_a_row;
    } else {
        h.in_a_row = 1;
        h.since = o.received;
    }
    h.answered = true;
    h.last = now;
    h.sent = o.sent;
    h.latency = o.received - o.sent;
    h.status = o.status;
    h.detail = std::move(o.detail);
    if (o.status)
        h.body = std::move(o.body);
}

std::string describe(const health& h) {
    if (!h.answered)
        return "not probed yet";
    if (!h.status)
        return h.detail + (h.last.what == answer::no ? ", and the PostgreSQL port refuses"
                           : h.last.gone             ? ", nor does the PostgreSQL port answer"
                                                     : "");
    if (!h.body)
        return fmt::format("{}, no readable body", *h.status);
    const auto word = [](const std::string& text) { return text.empty() ? "-" : etcd_http::printable(text, 40); };
    std::string text = fmt::format("{}, state {}, role {}", *h.status, word(h.body->state), word(h.body->role));
    if (h.body->replication_state)
        text += ", " + word(*h.body->replication_state);
    return text;
}

} // namespace pointsman::agent
