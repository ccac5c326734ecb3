// TLS settings made ready for use: files read once, the peer always verified.
#pragma once

#include "etcd_http/error.hpp"

#include <memory>
#include <string>

namespace boost::asio::ssl {
class context;
}

namespace pointsman::etcd_http {

struct tls_files {
    std::string ca_file; // PEM; empty: the system's CAs
    std::string cert_file;
    std::string key_file;
};

// Shared by every exchange that uses the same files.
using tls_context = std::shared_ptr<boost::asio::ssl::context>;

// Fails with errc::unusable and the name of the file that cannot be used.
result<tls_context> make_tls_context(const tls_files& files);

} // namespace pointsman::etcd_http
