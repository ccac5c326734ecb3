#include "runtime_api/address.hpp"

#include <catch2/catch.hpp>
#include <rapidcheck.h>

#include <optional>
#include <string>

using pointsman::runtime_api::address;

namespace {

bool is_absent_or_numeric(const std::optional<address>& where) {
    return !where || where->ip().find_first_not_of("0123456789abcdef.:") == std::string::npos;
}

} // namespace

TEST_CASE("address: what is accepted is spelled one way", "[address]") {
    struct row {
        std::string ip, canonical, shown;
    };
    const auto r = GENERATE(values<row>({
        {"10.0.0.1", "10.0.0.1", "10.0.0.1:5432"},
        {"255.255.255.255", "255.255.255.255", "255.255.255.255:5432"},
        {"::1", "::1", "[::1]:5432"},
        {"FD00:0:0:0::000A", "fd00::a", "[fd00::a]:5432"},
        {"::ffff:10.0.0.1", "10.0.0.1", "10.0.0.1:5432"},
        {"2001:db8:1111:2222:3333:4444:255.255.255.255", "2001:db8:1111:2222:3333:4444:ffff:ffff",
         "[2001:db8:1111:2222:3333:4444:ffff:ffff]:5432"},
    }));
    CAPTURE(r.ip);

    const auto where = address::parse(r.ip, 5432);

    REQUIRE(where);
    CHECK(where->ip() == r.canonical);
    CHECK(where->port() == 5432);
    CHECK(to_string(*where) == r.shown);
    CHECK(address::parse(where->ip(), 5432) == where);
}

TEST_CASE("address: nothing else than a usable numeric address is one", "[address]") {
    const std::string ip = GENERATE(values<std::string>({
        "",
        "localhost",
        "10.0.0",
        "10.0.0.256",
        "010.0.0.1",
        "10.0.0.1 ",
        " 10.0.0.1",
        "10.0.0.1;help",
        "10.0.0.1\n",
        "10.0.0.1:5432",
        "[::1]",
        "fe80::1%eth0",
        "ipv4@10.0.0.1",
        "1::2::3",
        "0.0.0.0",
        "::",
        "::ffff:0.0.0.0",
        "2001:db8:1111:2222:3333:4444:255.255.255.255.255",
    }));
    CAPTURE(ip);

    CHECK_FALSE(address::parse(ip, 5432));
}

TEST_CASE("address: a NUL does not hide what follows it", "[address]") {
    CHECK_FALSE(address::parse(std::string_view("10.0.0.1\0;help", 14), 5432));
}

TEST_CASE("address: a port is 1 to 65535", "[address]") {
    CHECK_FALSE(address::parse("10.0.0.1", 0));
    CHECK_FALSE(address::parse("10.0.0.1", 65536));
    CHECK_FALSE(address::parse("10.0.0.1", 4294967295));
    CHECK(address::parse("10.0.0.1", 1));
    CHECK(address::parse("10.0.0.1", 65535)->port() == 65535);
}

TEST_CASE("address: no text makes one that is not numeric", "[address]") {
    CHECK(rc::check("any text", [](const std::string& text, std::uint32_t port) {
        const auto where = address::parse(text, port);
        RC_ASSERT(is_absent_or_numeric(where));
    }));
    CHECK(rc::check("texts that are nearly addresses", [] {
        const auto text =
            *rc::gen::container<std::string>(rc::gen::element('0', '1', '9', 'a', 'F', '.', ':', '%', ' '));
        const auto where = address::parse(text, 5432);
        RC_ASSERT(is_absent_or_numeric(where));
    }));
}
