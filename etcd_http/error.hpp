// Pure: what can go wrong between the agent and etcd, or any other HTTP server it asks, as values.
#pragma once

#include <boost/system/result.hpp>

#include <string>

namespace pointsman::etcd_http {

enum class errc {
    unreachable,  // name not resolved, connection refused or reset, TLS handshake failed
    refused,      // the port answered at once that nobody listens (ECONNREFUSED): the process is not there
    timeout,      // no complete answer in time
    too_large,    // the answer went past its limit and was dropped
    malformed,    // an answer that is not what the protocol says
    unauthorised, // the token is missing, expired or of an old auth store: authenticate and try again once
    denied,       // the user may not do this, or the password is wrong: somebody has to change something
    no_leader,    // this member has no quorum, or is busy electing: ask another one
    compacted,    // the revision asked for is gone: read everything again
    stale,        // an answer older than one already seen: a member that lags behind
    gone_back,    // another cluster id, or a store that was wiped or restored
    unusable,     // the gateway is off, the prefix or the Host is refused: a matter of etcd's configuration
};

// `detail` is one sentence that says who and what: `etcd 10.0.0.1:2379: HTTP 503: etcdserver: no leader`.
struct failure {
    errc kind{};
    std::string detail;
};

template<class T>
using result = boost::system::result<T, failure>;

} // namespace pointsman::etcd_http
