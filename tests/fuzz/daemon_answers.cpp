// What the command line reads from the daemon: its events, from its file too, and its state, for `why` and `plan`.
#include "tests/fuzz/laws.hpp"

#include "agent/history.hpp"
#include "agent/why.hpp"

#include <string>

using namespace pointsman::agent;
using namespace pointsman::fuzz;

namespace {

void lines_must_be_printable(std::string_view text) {
    while (!text.empty())
        must_be_printable(take_line(text));
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text = text_of(data, size);
    const auto events = parse_events(text);
    if (events.has_value()) {
        const auto again = parse_events(render_events(*events));
        must(again.has_value() && *again == *events, "what was read is written and read again as it was");
        must(events->size() <= longest_history, "a history is bounded");
        lines_must_be_printable(describe_events(*events));
    } else {
        must_be_printable(events.error());
    }

    for (const char* what : {"n1", "primary/pg1"}) {
        const auto words = explain(text, what, false);
        lines_must_be_printable(words.has_value() ? *words : words.error().detail);
        explain(text, what, true).has_value();
    }
    const auto plan = explain_plan(text, false);
    lines_must_be_printable(plan.has_value() ? plan->text : plan.error().detail);
    return 0;
}
