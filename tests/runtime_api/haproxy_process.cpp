#include "haproxy_process.hpp"

#include "../support/wait_until.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <stdexcept>
#include <string_view>

namespace pointsman::test {
namespace {

// Whether this process serves the socket, which it binds some time before, and may share with one that it replaces.
bool serves(const std::string& path, pid_t pid) {
    sockaddr_un where{};
    where.sun_family = AF_UNIX;
    std::memcpy(where.sun_path, path.c_str(), path.size() + 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    constexpr std::string_view question = "show info\n";
    pollfd answer{fd, POLLIN, 0};
    std::string text;
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&where), sizeof where) == 0 &&
        ::send(fd, question.data(), question.size(), MSG_NOSIGNAL) > 0) {
        char part[4096];
        for (ssize_t size = 0; ::poll(&answer, 1, 5000) == 1 && (size = ::read(fd, part, sizeof part)) > 0;)
            text.append(part, static_cast<std::size_t>(size));
    }
    ::close(fd);
    return text.find("\nPid: " + std::to_string(pid) + '\n') != std::string::npos;
}

} // namespace

std::string haproxy_process::preamble(const scratch_dir& dir) {
    return "global\n"
           "    stats socket " +
           dir.path("admin.sock") +
           " level admin expose-fd listeners\n"
           "defaults\n"
           "    mode tcp\n"
           "    timeout connect 1s\n"
           "    timeout client 1m\n"
           "    timeout server 1m\n";
}

haproxy_process::haproxy_process(const scratch_dir& dir, std::string_view configuration, const haproxy_process* before)
    : socket_(dir.path("admin.sock")), log_(dir.path("haproxy.log")) {
    const std::string file = dir.path("haproxy.cfg");
    write_text(file, configuration);
    if (!before)
        ::unlink(socket_.c_str()); // of a HAProxy that has ended
    const std::string old = before ? std::to_string(before->pid()) : "";

    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0)
        throw std::runtime_error("fork failed");
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        const int output = ::open(log_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (::getppid() != parent || output < 0)
            ::_exit(127);
        ::dup2(output, STDOUT_FILENO);
        ::dup2(output, STDERR_FILENO);
        if (before)
            ::execl("/usr/sbin/haproxy", "haproxy", "-db", "-f", file.c_str(), "-x", socket_.c_str(), "-sf",
                    old.c_str(), nullptr);
        else
            ::execl("/usr/sbin/haproxy", "haproxy", "-db", "-f", file.c_str(), nullptr);
        ::_exit(127);
    }

    const bool decided = wait_until([this] {
        if (::waitpid(pid_, nullptr, WNOHANG) == pid_)
            pid_ = -1;
        return pid_ < 0 || serves(socket_, pid_);
    });
    if (!decided || pid_ < 0) {
        end();
        throw std::runtime_error("HAProxy did not start: " + log());
    }
}

void haproxy_process::end() {
    if (pid_ < 0)
        return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

} // namespace pointsman::test
