// A directory for a test's files, and certificates made by the openssl program.
#pragma once

#include <filesystem>
#include <string>

namespace pointsman::test {

// Under /dev/shm (fsync costs nothing there); removed at the end.
class scratch_dir {
public:
    scratch_dir();
    ~scratch_dir();
    scratch_dir(const scratch_dir&) = delete;
    scratch_dir& operator=(const scratch_dir&) = delete;

    std::string path(const std::string& name) const { return (where_ / name).string(); }

private:
    std::filesystem::path where_;
};

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
