// Pure: an IP address with a port, the only form in which an address reaches HAProxy's command line (R13).
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace pointsman::runtime_api {

// Holds a canonical numeric address (inet_ntop's spelling, no brackets, no zone) and a port of 1 to 65535. There is no
// way to make one from anything else, so that whatever holds an `address` is safe to render.
class address {
public:
    // nullopt where `ip` is not a numeric IPv4 or IPv6 address, is unspecified (0.0.0.0, ::: HAProxy would connect to
    // the client's own destination, facts 4), or `port` is out of range. An IPv4 address in IPv6's clothes
    // (::ffff:10.0.0.1) becomes the IPv4 address, so that one node has one spelling.
    static std::optional<address> parse(std::string_view ip, std::uint32_t port);

    const std::string& ip() const { return ip_; }
    std::uint16_t port() const { return port_; }

    friend auto operator<=>(const address&, const address&) = default;

private:
    address(std::string ip, std::uint16_t port) : ip_(std::move(ip)), port_(port) {}

    std::string ip_;
    std::uint16_t port_;
};

// `10.0.0.1:5432`, `[fd00::1]:5432`; for people, never for HAProxy.
std::string to_string(const address& where);

} // namespace pointsman::runtime_api
