// Runs seeds, each a simulated cluster of its own, until one breaks an invariant. A seed is the same run everywhere;
// the one that breaks is run again with its trace.
//
//     simulate [--seeds N] [--first SEED] [--minutes SIMULATED]      exit status 1 where an invariant breaks
//     simulate --seed SEED --trace [--minutes SIMULATED]             that one, with every line of its trace
#include "world.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>

namespace {

using namespace pointsman::sim;

struct options {
    std::uint64_t seeds{100};
    std::uint64_t first{1};
    std::chrono::minutes minutes{4};
    bool trace{};
};

int usage() {
    fmt::print(stderr, "usage: simulate [--seeds N] [--first SEED] [--seed SEED] [--trace] [--minutes SIMULATED]\n");
    return 2;
}

bool parse(int count, char** words, options& to) {
    for (int i = 1; i < count; ++i) {
        const std::string_view word = words[i];
        if (word == "--trace") {
            to.trace = true;
            continue;
        }
        if (i + 1 == count)
            return false;
        const std::uint64_t number = std::strtoull(words[++i], nullptr, 10);
        if (word == "--seeds")
            to.seeds = number;
        else if (word == "--first")
            to.first = number;
        else if (word == "--minutes")
            to.minutes = std::chrono::minutes(number);
        else if (word == "--seed") {
            to.first = number;
            to.seeds = 1;
        } else
            return false;
    }
    return to.seeds > 0 && to.minutes.count() > 0;
}

// With the end of its trace, from a second run: the first is faster without one.
void report(std::uint64_t seed, const options& asked) {
    world again(seed, true);
    again.run(asked.minutes);
    for (const std::string& line : again.lines)
        fmt::print("{}\n", line);
    const auto& broken = again.judge.broken();
    if (!broken) {
        fmt::print("seed {}: a second run is another one\n", seed);
        return;
    }
    const std::chrono::duration<double> at = broken->at.time_since_epoch() - std::chrono::hours(1000);
    fmt::print("seed {} at {:.3f} s: BROKEN: {}: {}\n", seed, at.count(), broken->name, broken->what);
}

} // namespace

int main(int count, char** words) {
    options asked;
    if (!parse(count, words, asked))
        return usage();
    std::uint64_t events = 0;
    std::uint64_t commands = 0;
    std::uint64_t digest = 0;
    counts total;
    std::chrono::duration<double> simulated{};
    std::uint64_t done = 0;
    bool broken = false;
    for (; done != asked.seeds && !broken; ++done) {
        const std::uint64_t seed = asked.first + done;
        world w(seed, asked.trace);
        if (asked.trace)
            w.on_line = [](const std::string& line) { fmt::print("{}\n", line); };
        const auto begin = w.clock.now();
        w.run(asked.minutes);
        simulated += w.clock.now() - begin;
        events += w.clock.happened();
        commands += w.proxy.commands;
        digest = digest * 31 + w.digest;
        total.passes += w.counts.passes;
        total.probes += w.counts.probes;
        total.sessions += w.counts.sessions;
        total.cut += w.counts.cut;
        for (const auto& [name, times] : w.counts.faults)
            total.faults[name] += times;
        broken = w.judge.broken().has_value();
        if (broken)
            report(seed, asked);
    }
    const double cpu = static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
    for (const auto& [name, times] : total.faults)
        fmt::print("{:8} {}\n", times, name);
    fmt::print("{} seeds, {:.1f} simulated hours, {} events, {} commands, {} passes, {} probes, {} sessions ({} cut)\n",
               done, simulated.count() / 3600, events, commands, total.passes, total.probes, total.sessions, total.cut);
    fmt::print("digest {:016x}\n", digest);
    fmt::print(stderr, "{:.1f} s of CPU, {:.0f} simulated seconds for each\n", cpu, simulated.count() / cpu);
    return broken ? 1 : 0;
}
