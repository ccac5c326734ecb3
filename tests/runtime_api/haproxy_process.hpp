// The installed HAProxy, for tests.
#pragma once

#include "../support/scratch_dir.hpp"

#include <sys/types.h>

#include <string>
#include <string_view>

namespace pointsman::test {

// A HAProxy in the foreground, with its configuration, sockets and log in a directory of its own. It ends with this
// object, and by the kernel's hand where the test itself is killed.
class haproxy_process {
public:
    // The beginning of every configuration: a stats socket at admin.sock that hands its listeners on, and the timeouts
    // that HAProxy wants.
    static std::string preamble(const scratch_dir& dir);

    // Writes `configuration` to haproxy.cfg and starts HAProxy with it; back when its socket answers.
    // `before`: the process that it replaces, as a seamless reload does; that one goes on with its connections.
    haproxy_process(const scratch_dir& dir, std::string_view configuration, const haproxy_process* before = nullptr);
    haproxy_process(const haproxy_process&) = delete;
    haproxy_process& operator=(const haproxy_process&) = delete;
    ~haproxy_process() { end(); }

    // At once, as by a crash.
    void end();

    pid_t pid() const { return pid_; }
    std::string socket() const { return socket_; }
    std::string log() const { return read_text(log_); } // what HAProxy said on standard error

private:
    std::string socket_;
    std::string log_;
    pid_t pid_ = -1;
};

} // namespace pointsman::test
