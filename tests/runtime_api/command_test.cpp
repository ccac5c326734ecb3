#include "runtime_api/command.hpp"

#include "printers.hpp"

#include <catch2/catch.hpp>
#include <rapidcheck.h>

#include <string>
#include <string_view>
#include <vector>

using namespace pointsman::runtime_api;

namespace {

slot_id pg(int n) {
    return *slot_id::parse("primary", "pg" + std::to_string(n));
}

command set_to(admin_state state) {
    return set_state{pg(1), state};
}

const command address_change = set_address{pg(1), *address::parse("10.0.0.1", 5432)};

using batch = std::vector<command>;

} // namespace

TEST_CASE("command: every command has HAProxy's spelling", "[command]") {
    CHECK(render(set_to(admin_state::maint)) == "set server primary/pg1 state maint");
    CHECK(render(set_to(admin_state::drain)) == "set server primary/pg1 state drain");
    CHECK(render(set_to(admin_state::ready)) == "set server primary/pg1 state ready");
    CHECK(render(address_change) == "set server primary/pg1 addr 10.0.0.1 port 5432");
    CHECK(render(set_address{pg(2), *address::parse("fd00::1", 1)}) == "set server primary/pg2 addr fd00::1 port 1");
    CHECK(render(set_weight{pg(1), 256}) == "set server primary/pg1 weight 256");
    CHECK(render(shutdown_sessions{pg(1)}) == "shutdown sessions server primary/pg1");
    CHECK(render(set_check{pg(1), true}) == "enable health primary/pg1");
    CHECK(render(set_check{pg(1), false}) == "disable health primary/pg1");
    CHECK(render(restore_health{pg(1)}) == "set server primary/pg1 health up");
}

TEST_CASE("command: the slot of every command is known", "[command]") {
    const command c = GENERATE(command(set_state{pg(7)}), command(set_weight{pg(7)}), command(shutdown_sessions{pg(7)}),
                               command(set_check{pg(7)}), command(set_address{pg(7), *address::parse("::1", 1)}));
    CHECK(slot_of(c) == pg(7));
}

TEST_CASE("command: a line is joined by semicolons and has none at its end", "[command]") {
    CHECK(render_line(batch{set_to(admin_state::maint)}) == "set server primary/pg1 state maint\n");
    CHECK(render_line(batch{set_to(admin_state::maint), shutdown_sessions{pg(1)}}) ==
          "set server primary/pg1 state maint;shutdown sessions server primary/pg1\n");
}

TEST_CASE("command: an address change goes alone", "[command]") {
    CHECK(can_share_a_line(batch{address_change}));
    CHECK_FALSE(can_share_a_line(batch{address_change, set_to(admin_state::ready)}));
    CHECK_FALSE(can_share_a_line(batch{set_to(admin_state::maint), address_change}));
    CHECK_FALSE(can_share_a_line(batch{}));
}

TEST_CASE("command: batches keep the order and leave nothing out", "[command]") {
    const batch all{set_to(admin_state::maint), shutdown_sessions{pg(1)}, address_change, address_change,
                    set_to(admin_state::ready)};

    std::vector<std::size_t> sizes;
    std::vector<command> sent;
    for (std::span<const command> rest(all); !rest.empty(); rest = rest.subspan(sizes.back())) {
        const auto next = next_batch(rest);
        sizes.push_back(next.size());
        sent.insert(sent.end(), next.begin(), next.end());
    }

    CHECK(sizes == std::vector<std::size_t>{2, 1, 1, 1});
    CHECK(sent == all);
    CHECK(next_batch({}).empty());
}

TEST_CASE("command: a line stays below what every version reads", "[command]") {
    const batch many(1000, set_to(admin_state::maint));

    const auto first = next_batch(many);

    CHECK(render_line(first).size() <= 8000);
    CHECK(first.size() > 200);
    CHECK_FALSE(can_share_a_line(std::span(many).first(first.size() + 1)));
}

TEST_CASE("command: silence is success, one empty line for each command", "[command]") {
    CHECK(check_reply(batch{set_to(admin_state::ready)}, "\n"));
    CHECK(check_reply(batch{set_to(admin_state::ready), set_weight{pg(1), 3}, shutdown_sessions{pg(1)}}, "\n\n\n"));
}

TEST_CASE("command: an answer with fewer or more lines is none", "[command]") {
    const batch two{set_to(admin_state::maint), shutdown_sessions{pg(1)}};

    const auto cut = check_reply(two, "\n");
    REQUIRE_FALSE(cut);
    CHECK(cut.error().kind == errc::refused);
    CHECK(cut.error().detail == "`shutdown sessions server primary/pg1`: the answer is cut");
    CHECK_FALSE(check_reply(two, ""));
    CHECK_FALSE(check_reply(two, "\n\n\n"));
}

TEST_CASE("command: the command that failed is named with its answer", "[command]") {
    const batch three{set_to(admin_state::maint), set_check{pg(2), true}, set_to(admin_state::ready)};
    struct row {
        std::string_view name, reply, detail;
    };
    const auto r = GENERATE(values<row>({
        {"first of three", "No such backend.\n\n\n\n", "`set server primary/pg1 state maint`: No such backend."},
        {"in the middle", "\nNo such server.\n\n\n", "`enable health primary/pg2`: No such server."},
        {"the last one", "\n\nNo such server.\n\n", "`set server primary/pg1 state ready`: No such server."},
        {"a message without an empty line after it, up to 2.8", "\nhealth checks are not enabled on this server\n\n",
         "`enable health primary/pg2`: health checks are not enabled on this server"},
        {"2.6: no check", "\nHealth check was not configured on this server, cannot enable.\n\n\n",
         "`enable health primary/pg2`: Health check was not configured on this server, cannot enable."},
        {"level operator", "Permission denied\n\nPermission denied\n\nPermission denied\n\n",
         "`set server primary/pg1 state maint`: Permission denied (the stats socket needs `level admin`)"},
    }));
    CAPTURE(r.name);

    const auto outcome = check_reply(three, r.reply);

    REQUIRE_FALSE(outcome);
    CHECK(outcome.error().kind == errc::refused);
    CHECK(outcome.error().detail == r.detail);
}

TEST_CASE("command: an old worker's answer is told from a refusal", "[command]") {
    const auto silent = check_reply(batch{set_to(admin_state::maint), set_to(admin_state::ready)},
                                    "Proxy is disabled.\n\nProxy is disabled.\n\n");
    const auto address = check_reply(batch{address_change}, "Proxy is disabled.\n\n");

    REQUIRE_FALSE(silent);
    CHECK(silent.error().kind == errc::stopping);
    REQUIRE_FALSE(address);
    CHECK(address.error().kind == errc::stopping);
}

TEST_CASE("command: every version's answer to an address change that was made is success", "[command]") {
    struct row {
        std::string_view name, reply;
    };
    const auto r = GENERATE(values<row>({
        {"2.4 to 3.4, both",
         "IP changed from '127.0.0.1' to '10.0.0.1', port changed from '1' to '5432' by 'stats socket command'\n\n"},
        {"2.4 to 2.8, only the address",
         "IP changed from '::1' to '10.0.0.1', no need to change the port by 'stats socket command'\n\n"},
        {"3.0 to 3.4, only the address", "IP changed from '::1' to '10.0.0.1' by 'stats socket command'\n\n"},
        {"2.4 to 2.8, only the port",
         "no need to change the addr, port changed from '5433' to '5432' by 'stats socket command'\n\n"},
        {"3.0 to 3.4, only the port", "port changed from '5433' to '5432' by 'stats socket command'\n\n"},
        {"2.4 to 2.8, nothing", "no need to change the addr, no need to change the port by 'stats socket command'\n\n"},
        {"3.0 to 3.4, nothing", "nothing changed\n\n"},
        {"a mapped port before",
         "IP changed from '127.0.0.1' to '10.0.0.1', port changed from '+0' to '5432' by 'stats socket command'\n\n"},
    }));
    CAPTURE(r.name);

    CHECK(check_reply(batch{address_change}, r.reply));
}

TEST_CASE("command: an address change that was not made, or not this one, is a failure", "[command]") {
    struct row {
        std::string_view name, reply;
    };
    const auto r = GENERATE(values<row>({
        {"2.4 to 2.8, bad address", "Invalid addr '10.0.0.1' by 'stats socket command'\n\n"},
        {"3.0 to 3.4, bad address", "Invalid addr '10.0.0.1'\n\n"},
        {"2.4 to 2.8, the port was not understood and the address is set",
         "IP changed from '127.0.0.1' to '10.0.0.1', problem converting port '5432' to an int by 'stats socket "
         "command'\n\n"},
        {"3.0 to 3.4, bad port", "problem converting port 'abc' to an int\n\n"},
        {"2.4 to 2.8, unix socket", "Update for the current server address family is only supported through "
                                    "configuration file by 'stats socket command'\n\n"},
        {"3.0 to 3.4, unix socket",
         "Update for the current server address family is only supported through configuration file\n\n"},
        {"no value", "set server <b>/<s> addr requires an address and optionally a port.\n\n"},
        {"no such server", "No such server.\n\n"},
        {"another address",
         "IP changed from '10.0.0.1' to '10.0.0.2', port changed from '1' to '5432' by 'stats socket command'\n\n"},
        {"another port",
         "IP changed from '127.0.0.1' to '10.0.0.1', port changed from '1' to '15432' by 'stats socket command'\n\n"},
        {"the address alone, with an address that ends like ours",
         "IP changed from '127.0.0.1' to '110.0.0.1' by 'stats socket command'\n\n"},
        {"two changes that look like one",
         "IP changed from '127.0.0.1' to '10.0.0.2' to '10.0.0.1' by 'stats socket command'\n\n"},
        {"another port, and ours behind it",
         "port changed from '1' to '15432' to '5432' by 'stats socket command'\n\n"},
        {"no address before: one quote for both", "IP changed from ' to '10.0.0.1' by 'stats socket command'\n\n"},
        {"nothing before", "IP changed from '' to '10.0.0.1' by 'stats socket command'\n\n"},
        {"something else before", "IP changed from 'nowhere else' to '10.0.0.1' by 'stats socket command'\n\n"},
        {"two lines", "IP changed from '127.0.0.1\n' to '10.0.0.1' by 'stats socket command'\n\n"},
        {"silence", "\n"},
        {"nothing at all", ""},
        {"cut", "IP changed from '127.0.0.1' to '10.0.0.1', port changed from '1' to '5432'"},
        {"cut before the end", "nothing changed\n"},
        {"something after it", "nothing changed\n\n\n"},
    }));
    CAPTURE(r.name);

    const auto outcome = check_reply(batch{address_change}, r.reply);

    REQUIRE_FALSE(outcome);
    CHECK(outcome.error().kind == errc::refused);
    CHECK(outcome.error().detail.starts_with("`set server primary/pg1 addr 10.0.0.1 port 5432`: "));
}

TEST_CASE("command: an answer in a failure is printable and short", "[command]") {
    const auto outcome = check_reply(batch{set_to(admin_state::ready)}, "\x1b[31mred\r\tand " + std::string(9000, 'x'));

    REQUIRE_FALSE(outcome);
    const auto& detail = outcome.error().detail;
    CHECK(detail.find("[31mred  and xxx") != std::string::npos);
    CHECK(detail.find_first_of("\x1b\r\n\t") == std::string::npos);
    CHECK(detail.size() < 300);
}

TEST_CASE("command: whatever the slot and the address, a line holds nothing that HAProxy could take for more",
          "[command]") {
    CHECK(rc::check([](const std::string& backend, const std::string& server, const std::string& ip,
                       std::uint32_t port) {
        const auto known = *rc::gen::element(std::string("primary"), std::string("a.b:c-d_9"), backend);
        const auto where = address::parse(*rc::gen::element(std::string("10.0.0.1"), std::string("fd00::1"), ip),
                                          *rc::gen::element(std::uint32_t{5432}, port));
        const auto id = slot_id::parse(known, *rc::gen::element(std::string("pg1"), server));
        RC_PRE(id.has_value() && where.has_value());

        const batch commands{set_state{*id, admin_state::drain}, set_address{*id, *where}, set_weight{*id, 256},
                             shutdown_sessions{*id}, set_check{*id, false}};
        for (const auto& c : commands) {
            const auto line = render(c);
            RC_ASSERT(line.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-/ ") ==
                      std::string::npos);
        }
    }));
}

TEST_CASE("command: no other answer than the right one passes for silence", "[command]") {
    CHECK(rc::check([] {
        const auto reply = *rc::gen::container<std::string>(rc::gen::element('\n', '\n', ' ', 'D', '\0'));
        const batch two{set_to(admin_state::maint), set_to(admin_state::ready)};
        RC_ASSERT(check_reply(two, reply).has_value() == (reply == "\n\n"));
    }));
}
