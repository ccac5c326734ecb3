#include "etcd_process.hpp"

#include <arpa/inet.h>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdexcept>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace pointsman::test {

std::string output_of(const std::string& command) {
    FILE* pipe = popen((command + " 2>&1").c_str(), "r");
    std::string text;
    for (int c; (c = std::fgetc(pipe)) != EOF;)
        text += static_cast<char>(c);
    if (pclose(pipe) != 0)
        throw std::runtime_error(command + ": " + text);
    return text;
}

namespace {

bool can_listen(const std::string& ip, std::uint16_t port) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    inet_pton(AF_INET, ip.c_str(), &where.sin_addr);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const int reuse = 1; // connections of an earlier etcd that linger do not count
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    const bool bound = bind(fd, reinterpret_cast<const sockaddr*>(&where), sizeof where) == 0;
    close(fd);
    return bound;
}

} // namespace

std::vector<std::string> free_addresses(std::size_t count) {
    constexpr int first = 10;
    constexpr int all = 200;
    std::vector<std::string> found;
    // Processes that start one after the other begin to look at different places.
    const int begin = static_cast<int>(getpid()) * 3 % all;
    for (int i = 0; i < all && found.size() < count; ++i) {
        const std::string ip = "127.0.30." + std::to_string(first + (begin + i) % all);
        if (can_listen(ip, 2379) && can_listen(ip, 2380))
            found.push_back(ip);
    }
    if (found.size() < count)
        throw std::runtime_error("no free address in 127.0.30.10 to 127.0.30.209");
    return found;
}

etcd_process::etcd_process(std::string ip, std::string data, const std::vector<std::string>& cluster,
                           std::vector<std::string> more_arguments, std::string scheme)
    : ip_(std::move(ip)), scheme_(std::move(scheme)) {
    const std::string peer_url = "http://" + ip_ + ":2380";
    std::string members;
    for (const std::string& one : cluster)
        members += (members.empty() ? "" : ",") + one + "=http://" + one + ":2380";
    arguments_ = {"etcd",   "--name",
                  ip_,      "--data-dir",
                  data,     "--listen-client-urls",
                  url(),    "--advertise-client-urls",
                  url(),    "--listen-peer-urls",
                  peer_url, "--initial-advertise-peer-urls",
                  peer_url, "--initial-cluster",
                  members,  "--log-level",
                  "error",  "--logger",
                  "zap"};
    arguments_.insert(arguments_.end(), more_arguments.begin(), more_arguments.end());
    start();
}

etcd_process::~etcd_process() {
    kill();
}

void etcd_process::start() {
    std::vector<char*> argv;
    for (std::string& argument : arguments_)
        argv.push_back(argument.data());
    argv.push_back(nullptr);
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0)
        throw std::runtime_error("fork failed");
    if (pid_ == 0) { // from here on only what is safe after a fork
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) // it died before the line above
            _exit(1);
        const int nowhere = open("/dev/null", O_RDWR);
        dup2(nowhere, 1);
        dup2(nowhere, 2);
        execvp("etcd", argv.data());
        _exit(127);
    }
}

void etcd_process::signal(int number) const {
    ::kill(pid_, number);
}

void etcd_process::kill() {
    if (pid_ <= 0)
        return;
    signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

} // namespace pointsman::test
