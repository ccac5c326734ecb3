#include "certificates.hpp"

#include <cstdlib>
#include <fstream>
#include <stdexcept>

namespace pointsman::test {

namespace {

void run(const std::string& command) {
    if (std::system((command + " 2>/dev/null").c_str()) != 0)
        throw std::runtime_error("failed: " + command);
}

} // namespace

certificates::certificates(const scratch_dir& dir) : dir_(dir) {
    run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=test CA' -keyout " +
        key("ca") + " -out " + cert("ca"));
}

void certificates::issue(const std::string& name, const std::string& subject, const std::string& names) const {
    const std::string request = dir_.path(name + ".csr");
    const std::string extensions = dir_.path(name + ".ext");
    std::ofstream(extensions) << "subjectAltName=" << names << "\nextendedKeyUsage=serverAuth,clientAuth\n";
    run("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '" + subject + "' -keyout " + key(name) +
        " -out " + request);
    run("openssl x509 -req -days 2 -CAcreateserial -CA " + cert("ca") + " -CAkey " + key("ca") + " -in " + request +
        " -extfile " + extensions + " -out " + cert(name));
}

} // namespace pointsman::test
