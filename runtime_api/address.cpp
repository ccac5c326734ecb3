// Pure: see address.hpp.
#include "runtime_api/address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

namespace pointsman::runtime_api {
namespace {

std::optional<std::string> canonical_ip(std::string_view ip) {
    // inet_pton reads to the first NUL, so a text with one in it would pass by its beginning.
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (ip.empty() || ip.size() >= text.size() || ip.find('\0') != std::string_view::npos)
        return std::nullopt;
    std::copy(ip.begin(), ip.end(), text.begin());

    in_addr v4{};
    in6_addr v6{};
    bool is_v4 = inet_pton(AF_INET, text.data(), &v4) == 1;
    if (!is_v4) {
        if (inet_pton(AF_INET6, text.data(), &v6) != 1)
            return std::nullopt;
        if (IN6_IS_ADDR_V4MAPPED(&v6)) {
            std::memcpy(&v4, &v6.s6_addr[12], sizeof v4);
            is_v4 = true;
        }
    }
    if (is_v4 ? v4.s_addr == INADDR_ANY : IN6_IS_ADDR_UNSPECIFIED(&v6))
        return std::nullopt;
    if (is_v4)
        inet_ntop(AF_INET, &v4, text.data(), text.size());
    else
        inet_ntop(AF_INET6, &v6, text.data(), text.size());
    return std::string(text.data());
}

} // namespace

std::optional<address> address::parse(std::string_view ip, std::uint32_t port) {
    if (port == 0 || port > std::numeric_limits<std::uint16_t>::max())
        return std::nullopt;
    auto canonical = canonical_ip(ip);
    if (!canonical)
        return std::nullopt;
    return address(std::move(*canonical), static_cast<std::uint16_t>(port));
}

std::string to_string(const address& where) {
    const bool is_v6 = where.ip().find(':') != std::string::npos;
    return (is_v6 ? '[' + where.ip() + ']' : where.ip()) + ':' + std::to_string(where.port());
}

} // namespace pointsman::runtime_api
