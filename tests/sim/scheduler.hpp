// The simulated time: what is to happen, in order of its time and, at the same time, of its arrangement.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

namespace pointsman::sim {

using time_point = std::chrono::steady_clock::time_point;
using duration = std::chrono::steady_clock::duration;

class scheduler {
public:
    using ticket = std::pair<time_point, std::uint64_t>;

    time_point now() const { return now_; }
    std::uint64_t happened() const { return happened_; }

    ticket at(time_point when, std::function<void()> what) {
        const ticket t{std::max(when, now_), ++arranged_};
        agenda_.emplace(t, std::move(what));
        return t;
    }
    ticket in(duration later, std::function<void()> what) { return at(now_ + later, std::move(what)); }
    void cancel(const ticket& t) { agenda_.erase(t); }

    // The next event. REQUIRES: there is one.
    void step() {
        auto next = agenda_.extract(agenda_.begin());
        now_ = next.key().first;
        ++happened_;
        next.mapped()();
    }

private:
    time_point now_{std::chrono::hours(1000)};
    std::uint64_t arranged_{};
    std::uint64_t happened_{};
    std::map<ticket, std::function<void()>> agenda_;
};

} // namespace pointsman::sim
