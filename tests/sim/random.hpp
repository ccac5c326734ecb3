// Chance that is the same on every machine: the standard's engines are, its distributions are not.
#pragma once

#include <chrono>
#include <cstdint>

namespace pointsman::sim {

class random {
public:
    explicit random(std::uint64_t seed) : state_(seed) {}

    // splitmix64 (Steele, Lea, Flood 2014).
    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        return z ^ (z >> 31);
    }

    // 0 to `count` - 1. REQUIRES: `count` is not 0.
    std::size_t below(std::size_t count) { return static_cast<std::size_t>(next() % count); }

    // `from` to `to`, both included.
    std::chrono::milliseconds between(std::chrono::milliseconds from, std::chrono::milliseconds to) {
        return from + std::chrono::milliseconds(below(static_cast<std::size_t>((to - from).count()) + 1));
    }
    std::chrono::milliseconds between(std::chrono::seconds from, std::chrono::seconds to) {
        return between(std::chrono::milliseconds(from), std::chrono::milliseconds(to));
    }
    std::chrono::microseconds between(std::chrono::microseconds from, std::chrono::microseconds to) {
        return from + std::chrono::microseconds(below(static_cast<std::size_t>((to - from).count()) + 1));
    }

    bool percent(unsigned chance) { return below(100) < chance; }

    template<class Range>
    auto& pick(Range& from) {
        return from[below(from.size())];
    }

private:
    std::uint64_t state_;
};

} // namespace pointsman::sim
