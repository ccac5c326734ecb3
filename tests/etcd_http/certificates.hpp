// Certificates made by the openssl program.
#pragma once

#include "../support/scratch_dir.hpp"

#include <string>

namespace pointsman::test {

// Each certificate is `<name>.crt` with `<name>.key`, in PEM.
class certificates {
public:
    // Makes a self-signed CA `ca`.
    explicit certificates(const scratch_dir& dir);

    // `subject` as in "/O=pointsman", `names` as in "DNS:etcd1,IP:127.0.30.2".
    void issue(const std::string& name, const std::string& subject, const std::string& names) const;

    std::string cert(const std::string& name) const { return dir_.path(name + ".crt"); }
    std::string key(const std::string& name) const { return dir_.path(name + ".key"); }

private:
    const scratch_dir& dir_;
};

} // namespace pointsman::test
