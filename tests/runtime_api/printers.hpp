// How Catch2 shows a result: with the reason of a failure.
#pragma once

#include "runtime_api/error.hpp"

#include <catch2/catch.hpp>

#include <string>

template<class T>
struct Catch::StringMaker<pointsman::runtime_api::result<T>> {
    static std::string convert(const pointsman::runtime_api::result<T>& outcome) {
        return outcome.has_value() ? "success" : outcome.error().detail;
    }
};
