// The real etcd, as a child of the test that never outlives it.
#pragma once

#include "etcd_http/gateway.hpp"

#include <cstddef>
#include <string>
#include <sys/types.h>
#include <vector>

namespace pointsman::test {

// Runs a program to its end and returns its output; throws where it fails.
std::string output_of(const std::string& command);

// Addresses of 127.0.30.10 to .209 on which nobody serves etcd's ports: tests that run at the same time, each in a
// process of its own, get different ones.
std::vector<std::string> free_addresses(std::size_t count);

// One member of an etcd cluster. Client port 2379, peer port 2380, on a loopback address of its own.
class etcd_process {
public:
    // `ip` names the member and `data` is its directory. `cluster` holds the addresses of all members, itself included.
    etcd_process(std::string ip, std::string data, const std::vector<std::string>& cluster,
                 std::vector<std::string> more_arguments = {}, std::string scheme = "http");
    ~etcd_process();
    etcd_process(const etcd_process&) = delete;
    etcd_process& operator=(const etcd_process&) = delete;

    void start();
    void signal(int number) const;
    void kill(); // and waits for its end
    const std::string& ip() const { return ip_; }
    std::string url() const { return scheme_ + "://" + ip_ + ":2379"; }
    etcd_http::gateway_endpoint endpoint() const { return {scheme_ == "https", ip_, 2379}; }

private:
    std::string ip_;
    std::string scheme_;
    std::vector<std::string> arguments_;
    pid_t pid_{-1};
};

} // namespace pointsman::test
