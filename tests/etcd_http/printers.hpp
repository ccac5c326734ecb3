// How Catch shows a failure of this module.
#pragma once

#include "etcd_http/error.hpp"

#include <catch2/catch.hpp>

namespace Catch {

template<class T>
struct StringMaker<boost::system::result<T, pointsman::etcd_http::failure>> {
    static std::string convert(const boost::system::result<T, pointsman::etcd_http::failure>& r) {
        if (r)
            return "a value";
        return "failure " + std::to_string(static_cast<int>(r.error().kind)) + ": " + r.error().detail;
    }
};

} // namespace Catch
