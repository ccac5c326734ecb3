// A gateway that follows `/s/demo/` beside a test, and what it told.
#pragma once

#include "etcd_http/gateway.hpp"

#include "run_coro.hpp"

#include <algorithm>

namespace pointsman::test {

struct record {
    std::vector<etcd_http::key_snapshot> told;
    std::vector<etcd_http::failure> failures;
    int confirmed{};
    bool watching{};

    etcd_http::follower follower() {
        return {.changed = [this](const etcd_http::key_snapshot& keys) { told.push_back(keys); },
                .confirmed = [this] { ++confirmed; },
                .failed = [this](const etcd_http::failure& why) { failures.push_back(why); },
                .watching = [this](bool is) { watching = is; }};
    }

    // The value of a key as it was told last; "-" where there is none.
    std::string value(const std::string& key) const {
        if (told.empty() || !told.back().keys.contains(key))
            return "-";
        return told.back().keys.at(key).value;
    }

    long count(etcd_http::errc kind) const {
        return std::ranges::count_if(failures, [kind](const auto& one) { return one.kind == kind; });
    }
};

class following {
public:
    following(etcd_http::gateway_settings settings, record& seen)
        : gateway_(std::move(settings)), who_(seen.follower()), running_(gateway_.follow("/s/demo/", who_)) {}

    template<class Condition>
    bool until(Condition condition) {
        return running_.until(condition);
    }

    // The tests' own time passes while the gateway goes on.
    void go_on_for(std::chrono::milliseconds time) {
        const auto end = std::chrono::steady_clock::now() + time;
        running_.until([end] { return std::chrono::steady_clock::now() > end; });
    }

    // False where following did not end at once and without a trace.
    bool end() { return running_.cancel(); }

private:
    etcd_http::gateway gateway_;
    etcd_http::follower who_;
    running running_;
};

} // namespace pointsman::test
