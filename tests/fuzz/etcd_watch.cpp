// The stream of a watch, in pieces, with the keys kept current by it and Patroni's cluster in them. The lines are what
// etcd sends: replies to ranges and messages of a watch.
#include "tests/fuzz/laws.hpp"

#include "etcd_http/codec.hpp"
#include "etcd_http/key_cache.hpp"
#include "etcd_http/patroni.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace pointsman::etcd_http;
using namespace pointsman::fuzz;

namespace {

constexpr std::size_t longest_line = 2000;
constexpr std::int64_t last_revision = std::numeric_limits<std::int64_t>::max();

struct delivered {
    std::vector<std::string> lines;
    bool overflowed{};
    std::string rest;
    friend bool operator==(const delivered&, const delivered&) = default;
};

delivered cut_into_lines(std::string_view stream, std::size_t piece) {
    line_splitter splitter(longest_line);
    delivered d;
    while (!stream.empty()) {
        splitter.feed(stream.substr(0, piece));
        stream.remove_prefix(std::min(piece, stream.size()));
        while (const auto line = splitter.next())
            d.lines.emplace_back(*line);
    }
    d.overflowed = splitter.overflowed();
    d.rest = splitter.rest();
    return d;
}

void check_message(const watch_message& message) {
    for (const key_event& event : message.events)
        must(!event.key.empty() && event.now.mod_revision > 0, "an event has a key and a revision");
    if (message.canceled)
        must_be_printable(cancellation(message).detail);
}

void check_step(const key_snapshot& before, const key_snapshot& after, verdict said) {
    must(after.store == before.store || (after.store == before.store + 1 && said == verdict::changed),
         "another store is a change");
    must(after.store != before.store || after.revision >= before.revision, "within a store nothing goes back");
    must(after.revision >= 0 && after.revision < last_revision, "a watch can begin at the next revision");
    if (said != verdict::changed)
        must(after.keys == before.keys, "what is no change changes no key");
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto stream = text_of(data, size);
    const delivered whole = cut_into_lines(stream, std::max<std::size_t>(size, 1));
    must(whole == cut_into_lines(stream, 1 + size % 13), "a stream has the same lines however it arrives");
    for (const auto& line : whole.lines)
        must(line.size() <= longest_line && line.find('\n') == std::string::npos, "a line is whole and has a limit");

    key_cache cache(1 + size % 3);
    key_cache::time_point now{};
    for (const auto& line : whole.lines) {
        now += std::chrono::seconds(11);
        const key_snapshot before = cache.snapshot();
        if (auto read = parse_range(line)) {
            check_step(before, cache.snapshot(), verdict::unchanged);
            const verdict said = cache.apply(std::move(*read), before.revision, now);
            check_step(before, cache.snapshot(), said);
        } else if (const auto message = parse_watch(line)) {
            check_message(*message);
            if (before.store != 0)
                check_step(before, cache.snapshot(), cache.apply(*message));
        } else {
            must_be_printable(message.error().detail);
            cache.unanswered();
        }
    }
    const key_snapshot& last = cache.snapshot();
    for (const refusal& r : parse_cluster(last.keys, "/s/", last.revision).refusals) {
        must_be_printable(r.member);
        must_be_printable(r.reason);
    }
    return 0;
}
