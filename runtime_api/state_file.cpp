#include "runtime_api/state_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <sstream>
#include <system_error>
#include <vector>

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

unsigned bits_of(const std::string& column) {
    unsigned bits{};
    std::from_chars(column.data(), column.data() + column.size(), bits);
    return bits;
}

// IMAINT, IDRAIN and RMAINT come from another server or from name resolution, and HAProxy works them out anew.
std::string own_admin_state(const std::string& column) {
    constexpr unsigned inherited = 0x02 | 0x10 | 0x20;
    return std::to_string(bits_of(column) & ~inherited);
}

// A check that the agent has suspended comes back enabled, for the agent may be gone by then (R3).
std::string resumed_check_state(const std::string& column) {
    constexpr unsigned configured = 2;
    constexpr unsigned enabled = 4;
    const unsigned bits = bits_of(column);
    return std::to_string(bits & configured ? bits | enabled : bits);
}

std::vector<std::string> words(const std::string& line) {
    std::istringstream text(line);
    return {std::istream_iterator<std::string>(text), std::istream_iterator<std::string>()};
}

} // namespace

std::string state_file(std::string_view dump, std::span<const std::string> backends) {
    std::istringstream lines{std::string(dump)};
    std::string version;
    std::string header;
    std::getline(lines, version);
    std::getline(lines, header);

    auto names = words(header);
    names.erase(names.begin()); // the `#`
    const auto column = [&names](std::string_view name) {
        return static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin());
    };
    const auto backend = column("be_name");
    const auto address = column("srv_addr");
    const auto host_name = column("srv_fqdn");
    const auto admin_state = column("srv_admin_state");
    const auto check_state = column("srv_check_state");
    const auto agent_port = column("srv_agent_port");

    std::string file = version + '\n' + header + '\n';
    for (std::string line; std::getline(lines, line) && !line.empty();) {
        auto row = words(line);
        const bool ours = std::find(backends.begin(), backends.end(), row[backend]) != backends.end();
        if (!ours || row[address] == "-" || row[host_name] == "-")
            continue;
        row[admin_state] = own_admin_state(row[admin_state]);
        row[check_state] = resumed_check_state(row[check_state]);
        // HAProxy fills this column with the `port` of `check`, and then warns of the file it restores it from: a slot
        // has no agent check. With `zero-warning` it would not even start.
        row[agent_port] = "0";
        for (std::size_t i = 0; i != row.size(); ++i)
            file += (i == 0 ? "" : " ") + row[i];
        file += '\n';
    }
    return file;
}

result<void> write_state_file(const std::string& path, std::string_view text) {
    // The name is fixed, so that what a crash leaves behind is used again.
    const std::string fresh = path + ".new";
    if (write_file(fresh, text) && std::rename(fresh.c_str(), path.c_str()) == 0 && sync_directory_of(path))
        return {};
    const auto reason = std::generic_category().message(errno);
    ::unlink(fresh.c_str());
    return failure{errc::unwritable, "state file " + path + ": " + reason};
}

} // namespace pointsman::runtime_api
