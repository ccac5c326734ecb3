#pragma once

#include <chrono>
#include <thread>

namespace pointsman::test {

// Looks again and again until `condition` holds. False where it does not within a time that is too long for any test.
template<class Condition>
bool wait_until(const Condition& condition, std::chrono::milliseconds longest = std::chrono::seconds(10)) {
    const auto end = std::chrono::steady_clock::now() + longest;
    while (!condition()) {
        if (std::chrono::steady_clock::now() >= end)
            return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

} // namespace pointsman::test
