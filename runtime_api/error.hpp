// Pure: what can go wrong between the agent and HAProxy's stats socket, as values.
#pragma once

#include <boost/system/result.hpp>

#include <string>
#include <string_view>

namespace pointsman::runtime_api {

enum class errc {
    unreachable, // no socket there, or nobody accepts on it: HAProxy is down, or the path is wrong
    timeout,     // the exchange did not end in time; HAProxy may or may not have done what it was asked
    too_large,   // the answer went past the limit and was dropped
    refused,     // HAProxy answered, and the answer is not the one that means success
    malformed,   // a dump that is not in HAProxy's format
    stopping,    // an old worker answered (`Stopping: 1`); the new one must be asked
    unwritable,  // HAProxy's state file could not be written; HAProxy itself is not concerned
};

// `detail` is one sentence that says who and what, ready for the log.
struct failure {
    errc kind{};
    std::string detail;
};

template<class T>
using result = boost::system::result<T, failure>;

// Text of HAProxy's, for a `detail`: on one line, printable, cut where it is long.
std::string excerpt(std::string_view text);

} // namespace pointsman::runtime_api
