// The same contract as in session_test.cpp, with the real HAProxy on the other side.
#include "haproxy_process.hpp"
#include "printers.hpp"
#include "run.hpp"
#include "runtime_api/replace_file.hpp"
#include "runtime_api/session.hpp"
#include "runtime_api/state_file.hpp"

#include <boost/asio/local/stream_protocol.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

using namespace pointsman::runtime_api;
using namespace pointsman::test;
using namespace std::chrono_literals;

namespace asio = boost::asio;

namespace {

// No check ever comes to change a slot's state.
constexpr std::string_view pool =
    "    option httpchk HEAD /master\n"
    "    http-check expect status 200\n"
    "    default-server inter 1h fall 3 rise 2 on-marked-down shutdown-sessions\n"
    "    server-template pg 1-3 slot.invalid:1 init-addr last,127.0.0.1 check port 8008 weight 100 disabled\n";

slot_id pg(int n) {
    return *slot_id::parse("primary", "pg" + std::to_string(n));
}

address at(std::string_view ip, std::uint32_t port = 5432) {
    return *address::parse(ip, port);
}

struct client {
    explicit client(socket_target target, std::chrono::milliseconds deadline = 5s)
        : haproxy(std::move(target), {.deadline = deadline}) {}
    explicit client(const haproxy_process& process) : client(socket_target{process.socket(), {}, 0}) {}

    result<observation> observe() { return run(context, haproxy.observe()); }

    // In as many exchanges as it takes.
    result<void> execute(std::vector<command> commands) {
        for (std::span<const command> rest(commands); !rest.empty();) {
            const auto batch = next_batch(rest);
            auto done = run(context, haproxy.execute(batch));
            if (!done)
                return done;
            rest = rest.subspan(batch.size());
        }
        return {};
    }

    std::string refusal(const command& c) {
        const auto done = execute({c});
        REQUIRE_FALSE(done);
        CHECK(done.error().kind == errc::refused);
        const auto prefix = "haproxy " + to_string(haproxy.target()) + ": `" + render(c) + "`: ";
        CHECK(done.error().detail.starts_with(prefix));
        return done.error().detail.substr(std::min(prefix.size(), done.error().detail.size()));
    }

    slot look_at(const slot_id& id) {
        const auto seen = observe();
        if (!seen)
            FAIL(seen.error().detail);
        const auto found =
            std::find_if(seen->slots.begin(), seen->slots.end(), [&id](const slot& s) { return s.id == id; });
        REQUIRE(found != seen->slots.end());
        return *found;
    }

    asio::io_context context{1};
    session haproxy;
};

} // namespace

TEST_CASE("haproxy: a fresh process shows free slots", "[haproxy]") {
    const scratch_dir dir;
    const haproxy_process process(dir, haproxy_process::preamble(dir) + "backend primary\n" + std::string(pool));
    client agent(process);

    const auto seen = agent.observe();

    REQUIRE(seen);
    CHECK(seen->process.pid == process.pid());
    CHECK(seen->process.major >= 2);
    CHECK(seen->process.start_time > 1'700'000'000);
    CHECK_FALSE(seen->process.stopping);
    REQUIRE(seen->slots.size() == 3);
    const auto& first = seen->slots[0];
    CHECK(first.id == pg(1));
    CHECK(first.where == at("127.0.0.1", 1));
    CHECK(first.admin == admin_state::maint);
    CHECK(first.operational == operational_state::down);
    CHECK(first.weight == 100);
    CHECK(first.initial_weight == 100);
    CHECK(first.check_configured);
    CHECK(first.check_enabled);
}

TEST_CASE("haproxy: every command does what it says", "[haproxy]") {
    const scratch_dir dir;
    const haproxy_process process(dir, haproxy_process::preamble(dir) + "backend primary\n" + std::string(pool));
    client agent(process);

    CHECK(agent.execute({set_address{pg(1), at("127.0.31.9")}}));
    CHECK(agent.look_at(pg(1)).where == at("127.0.31.9"));
    CHECK(agent.execute({set_address{pg(1), at("127.0.31.9")}}));
    CHECK(agent.execute({set_address{pg(1), at("127.0.31.9", 5433)}}));
    CHECK(agent.look_at(pg(1)).where == at("127.0.31.9", 5433));
    CHECK(agent.execute({set_address{pg(1), at("fd00::31", 5433)}}));
    CHECK(agent.look_at(pg(1)).where == at("fd00::31", 5433));

    CHECK(agent.execute({set_state{pg(1), admin_state::ready}}));
    CHECK(agent.look_at(pg(1)).admin == admin_state::ready);
    CHECK(agent.look_at(pg(1)).operational == operational_state::up);
    CHECK(agent.execute({set_state{pg(1), admin_state::drain}}));
    CHECK(agent.look_at(pg(1)).admin == admin_state::drain);
    CHECK(agent.execute({set_state{pg(1), admin_state::maint}, set_state{pg(1), admin_state::maint}}));
    CHECK(agent.look_at(pg(1)).admin == admin_state::maint);

    CHECK(agent.execute({set_weight{pg(1), 0}, set_weight{pg(2), 256}}));
    CHECK(agent.look_at(pg(1)).weight == 0);
    CHECK(agent.look_at(pg(2)).weight == 256);
    CHECK(agent.look_at(pg(2)).initial_weight == 100);

    CHECK(agent.execute({set_check{pg(1), false}}));
    CHECK_FALSE(agent.look_at(pg(1)).check_enabled);
    CHECK(agent.look_at(pg(1)).check_configured);
    CHECK(agent.execute({restore_health{pg(1)}, set_check{pg(1), true}}));
    CHECK(agent.look_at(pg(1)).check_enabled);

    CHECK(agent.execute({shutdown_sessions{pg(1)}}));
}

TEST_CASE("haproxy: what it refuses is a failure, with its words", "[haproxy]") {
    const scratch_dir dir;
    const haproxy_process process(dir, haproxy_process::preamble(dir) + "backend primary\n"
                                                                        "    balance static-rr\n"
                                                                        "    server pg1 127.0.0.1:1\n"
                                                                        "    server pg2 /nowhere.sock disabled\n");
    client agent(process);
    const auto no_server = *slot_id::parse("primary", "pg9");
    const auto no_backend = *slot_id::parse("primaries", "pg1");
    const std::vector<command> to_nobody{set_state{no_server, admin_state::ready},
                                         set_address{no_server, at("127.0.31.9")},
                                         set_weight{no_server, 1},
                                         shutdown_sessions{no_server},
                                         set_check{no_server, true},
                                         set_check{no_server, false}};

    for (const auto& c : to_nobody)
        CHECK(agent.refusal(c) == "No such server.");
    CHECK(agent.refusal(set_state{no_backend, admin_state::ready}) == "No such backend.");
    CHECK(agent.refusal(set_address{no_backend, at("127.0.31.9")}) == "No such backend.");
    CHECK(agent.refusal(set_check{pg(1), true}) == "Health check was not configured on this server, cannot enable.");
    CHECK(agent.refusal(set_weight{pg(1), 3}).starts_with("Backend is using a static LB algorithm"));
    CHECK(agent.refusal(set_address{pg(2), at("127.0.31.9")})
              .starts_with("Update for the current server address family"));
    CHECK_FALSE(agent.look_at(pg(2)).where);
}

TEST_CASE("haproxy: one refusal in a line stops none of the others, and is named", "[haproxy]") {
    const scratch_dir dir;
    const haproxy_process process(dir, haproxy_process::preamble(dir) + "backend primary\n" + std::string(pool));
    client agent(process);

    const auto done = agent.execute({set_state{pg(1), admin_state::drain},
                                     set_state{*slot_id::parse("primary", "pg9"), admin_state::ready},
                                     set_state{pg(2), admin_state::drain}});

    REQUIRE_FALSE(done);
    CHECK(done.error().detail.ends_with("`set server primary/pg9 state ready`: No such server."));
    CHECK(agent.look_at(pg(1)).admin == admin_state::drain);
    CHECK(agent.look_at(pg(2)).admin == admin_state::drain);
}

TEST_CASE("haproxy: a line as long as we send is read whole", "[haproxy]") {
    const scratch_dir dir;
    const haproxy_process process(dir, haproxy_process::preamble(dir) + "backend primary\n" + std::string(pool));
    client agent(process);
    std::vector<command> many(1000, set_state{pg(1), admin_state::drain});
    many.push_back(set_state{pg(3), admin_state::drain});

    CHECK(agent.execute(many));
    CHECK(agent.look_at(pg(3)).admin == admin_state::drain);
}

TEST_CASE("haproxy: a socket without the rights says what it needs", "[haproxy]") {
    const scratch_dir dir;
    const haproxy_process process(dir, haproxy_process::preamble(dir) + "global\n    stats socket " +
                                           dir.path("user.sock") + " level operator\nbackend primary\n" +
                                           std::string(pool));
    client operating({dir.path("user.sock"), {}, 0});

    CHECK(operating.observe());
    CHECK(operating.refusal(set_state{pg(1), admin_state::ready}) ==
          "Permission denied (the stats socket needs `level admin`)");
}

TEST_CASE("haproxy: a proxy that is disabled answers as an old worker does", "[haproxy]") {
    const scratch_dir dir;
    const haproxy_process process(dir, haproxy_process::preamble(dir) + "backend primary\n    disabled\n" +
                                           std::string(pool));
    client agent(process);

    const auto done = agent.execute({set_state{pg(1), admin_state::ready}});

    REQUIRE_FALSE(done);
    CHECK(done.error().kind == errc::stopping);
}

TEST_CASE("haproxy: a restart is seen as another process with free slots", "[haproxy]") {
    const scratch_dir dir;
    const auto configuration = haproxy_process::preamble(dir) + "backend primary\n" + std::string(pool);
    process_info before;
    {
        const haproxy_process process(dir, configuration);
        client agent(process);
        REQUIRE(agent.execute({set_address{pg(1), at("127.0.31.9")}, set_state{pg(1), admin_state::ready}}));
        before = agent.observe()->process;
    }
    client agent({dir.path("admin.sock"), {}, 0});
    const auto dead = agent.observe();
    REQUIRE_FALSE(dead);
    CHECK(dead.error().kind == errc::unreachable);

    const haproxy_process process(dir, configuration);

    const auto seen = agent.observe();
    REQUIRE(seen);
    CHECK(seen->process.pid != before.pid);
    CHECK(seen->slots[0].where == at("127.0.0.1", 1));
    CHECK(seen->slots[0].admin == admin_state::maint);
}

TEST_CASE("haproxy: the stats socket may be TCP", "[haproxy]") {
    const scratch_dir dir;
    const haproxy_process process(dir, haproxy_process::preamble(dir) +
                                           "global\n    stats socket ipv4@127.0.31.3:9999 level admin\n" +
                                           "backend primary\n" + std::string(pool));
    client agent({"", "127.0.31.3", 9999});

    CHECK(agent.execute({set_address{pg(1), at("127.0.31.9")}, set_state{pg(1), admin_state::ready}}));

    const auto seen = agent.observe();
    REQUIRE(seen);
    CHECK(seen->process.pid == process.pid());
    CHECK(seen->slots[0].where == at("127.0.31.9"));
}

TEST_CASE("haproxy: when others hold all ten connections, the deadline ends the wait", "[haproxy]") {
    const scratch_dir dir;
    const haproxy_process process(dir, haproxy_process::preamble(dir) + "backend primary\n" + std::string(pool));
    client agent({process.socket(), {}, 0}, 300ms);
    std::vector<asio::local::stream_protocol::socket> others;
    for (int i = 0; i != 10; ++i)
        others.emplace_back(agent.context).connect(process.socket());

    const auto seen = agent.observe();

    REQUIRE_FALSE(seen);
    CHECK(seen.error().kind == errc::timeout);
    CHECK(seen.error().detail.find("`stats maxconn`") != std::string::npos);
    others.clear();
    client later(process);
    CHECK(later.observe());
}

TEST_CASE("haproxy: statistics count the sessions of a slot, and shutdown_sessions ends them", "[haproxy]") {
    const scratch_dir dir;
    const haproxy_process process(dir, haproxy_process::preamble(dir) + "listen primary\n    bind unix@" +
                                           dir.path("front.sock") + "\n    server pg1 unix@" + dir.path("back.sock") +
                                           "\n");
    client agent(process);
    using local = asio::local::stream_protocol;
    local::acceptor server(agent.context, local::endpoint(dir.path("back.sock")));
    local::socket user(agent.context);
    user.connect(local::endpoint(dir.path("front.sock")));
    auto served = server.accept();

    // HAProxy counts the session a moment after it has connected to the slot.
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    auto before = run(agent.context, agent.haproxy.statistics());
    while (before && before->size() == 1 && (*before)[0].sessions == 0 && std::chrono::steady_clock::now() < deadline)
        before = run(agent.context, agent.haproxy.statistics());
    REQUIRE(before);
    REQUIRE(before->size() == 1);
    CHECK((*before)[0].backend == "primary");
    CHECK((*before)[0].server == "pg1");
    CHECK((*before)[0].status == "no check");
    CHECK((*before)[0].sessions == 1);

    CHECK(agent.execute({shutdown_sessions{pg(1)}}));
    char byte{};
    boost::system::error_code ended;
    served.read_some(asio::buffer(&byte, 1), ended);
    CHECK(ended);
}

TEST_CASE("haproxy: a restart with our state file brings addresses, states and weights back", "[haproxy]") {
    const scratch_dir dir;
    const auto configuration = haproxy_process::preamble(dir) +
                               "    load-server-state-from-file global\nglobal\n    server-state-file " +
                               dir.path("haproxy.state") + "\nbackend primary\n" + std::string(pool) +
                               "    server literal 127.0.31.9:1 disabled\n" + "backend others\n" +
                               "    server web slot.invalid:80 init-addr last,127.0.0.1\n";
    const auto literal = *slot_id::parse("primary", "literal");
    const auto web = *slot_id::parse("others", "web");
    std::vector<slot> before;
    {
        const haproxy_process process(dir, configuration);
        client agent(process);
        REQUIRE(agent.execute({set_address{pg(1), at("127.0.31.21")}, set_address{pg(2), at("fd00::22", 5433)},
                               set_address{pg(3), at("127.0.31.23")}, set_state{pg(1), admin_state::ready},
                               set_state{pg(2), admin_state::drain}, set_weight{pg(1), 7}, set_check{pg(3), false},
                               set_address{literal, at("127.0.31.24")}, set_state{literal, admin_state::ready},
                               set_state{web, admin_state::drain}}));
        const auto seen = agent.observe();
        REQUIRE(seen);
        before = seen->slots;
        const auto rows = restorable_rows(seen->dump);
        REQUIRE(replace_file(dir.path("haproxy.state"), rows.head + rows.of_backend.at("primary")));
    }

    const haproxy_process process(dir, configuration);

    client agent(process);
    for (int n = 1; n <= 3; ++n) {
        CAPTURE(n);
        const auto restored = agent.look_at(pg(n));
        const auto& was = before[static_cast<std::size_t>(n - 1)];
        CHECK(restored.where == was.where);
        CHECK(restored.admin == was.admin);
        CHECK(restored.weight == was.weight);
        CHECK(restored.check_enabled); // also where the agent had suspended it: the agent may be gone
    }
    // HAProxy would have given it the port of before at the address of the configuration.
    CHECK(agent.look_at(literal).where == at("127.0.31.9", 1));
    CHECK(agent.look_at(literal).admin == admin_state::maint);
    CHECK(agent.look_at(web).admin == admin_state::ready);
    INFO(process.log());
    CHECK(process.log().find("server-state") == std::string::npos);
}
