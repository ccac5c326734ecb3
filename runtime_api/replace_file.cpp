#include "runtime_api/replace_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <system_error>

namespace pointsman::runtime_api {
namespace {

class file_descriptor {
public:
    explicit file_descriptor(int fd) : fd_(fd) {}
    file_descriptor(const file_descriptor&) = delete;
    file_descriptor& operator=(const file_descriptor&) = delete;
    ~file_descriptor() {
        if (fd_ >= 0)
            ::close(fd_);
    }

    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }

private:
    int fd_;
};

bool write_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const auto written = ::write(fd, text.data(), text.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return false;
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
}

// HAProxy runs under a user of its own: whatever our umask, it must be able to read the file.
bool write_file(const std::string& path, std::string_view text) {
    const file_descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644));
    return file && ::fchmod(file.get(), 0644) == 0 && write_all(file.get(), text) && ::fsync(file.get()) == 0;
}

// Without it the rename itself may be lost with the power.
bool sync_directory_of(const std::string& path) {
    const auto parent = std::filesystem::path(path).parent_path();
    const file_descriptor directory(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return directory && ::fsync(directory.get()) == 0;
}

} // namespace

result<void> replace_file(const std::string& path, std::string_view text) {
    // The name is fixed, so that what a crash leaves behind is used again.
    const std::string fresh = path + ".new";
    if (write_file(fresh, text) && std::rename(fresh.c_str(), path.c_str()) == 0 && sync_directory_of(path))
        return {};
    const auto reason = std::generic_category().message(errno);
    ::unlink(fresh.c_str());
    return failure{errc::unwritable, path + ": " + reason};
}

} // namespace pointsman::runtime_api
