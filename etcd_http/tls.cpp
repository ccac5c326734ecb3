#include "etcd_http/tls.hpp"

#include <boost/asio/ssl/context.hpp>

#include <openssl/ssl.h>

namespace pointsman::etcd_http {

namespace ssl = boost::asio::ssl;

result<tls_context> make_tls_context(const tls_files& files) {
    const auto unusable = [](const std::string& file, const boost::system::error_code& ec) {
        return failure{errc::unusable, file + ": " + ec.message()};
    };
    boost::system::error_code ec;
    auto context = std::make_shared<ssl::context>(ssl::context::tls_client);
    SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
    context->set_verify_mode(ssl::verify_peer, ec);
    if (files.ca_file.empty())
        context->set_default_verify_paths(ec);
    else
        context->load_verify_file(files.ca_file, ec);
    if (ec)
        return unusable(files.ca_file.empty() ? "the system's CA certificates" : files.ca_file, ec);
    if (!files.cert_file.empty()) {
        context->use_certificate_chain_file(files.cert_file, ec);
        if (ec)
            return unusable(files.cert_file, ec);
    }
    if (!files.key_file.empty()) {
        // Without this OpenSSL asks the terminal for the password of an encrypted key, and waits.
        context->set_password_callback([](std::size_t, ssl::context::password_purpose) { return std::string(); }, ec);
        context->use_private_key_file(files.key_file, ssl::context::pem, ec);
        if (ec)
            return unusable(files.key_file, ec);
    }
    return context;
}

} // namespace pointsman::etcd_http
