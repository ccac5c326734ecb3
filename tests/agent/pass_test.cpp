// The loop's decisions, with a HAProxy of values: it answers, fails, lies, and is replaced.
#include "../support/slots.hpp"
#include "agent/pass.hpp"
#include "world.hpp"

#include <catch2/catch.hpp>

#include <functional>
#include <string>

using namespace pointsman;
using namespace pointsman::test;
using namespace pointsman::agent;
using namespace std::chrono_literals;
using runtime_api::errc;
using runtime_api::failure;

namespace {

// What HAProxy has, and how the passes go with it.
class scene {
public:
    scene() { w.member("n1").member("n2").leader("n1").says("n1", writable()).says("n2", standby(), 2); }

    void reads(const std::string& name) { w.reads(name, readable(), 2); }

    runtime_api::observation observation() const {
        runtime_api::observation seen{process,
                                      {},
                                      "1\n# be_name srv_name srv_addr srv_fqdn srv_admin_state srv_check_state "
                                      "srv_agent_port\n"};
        for (const auto& [backend, there] : slots_of) {
            for (const auto& s : there) {
                seen.slots.push_back(s);
                seen.dump += backend + ' ' + s.id.server() + ' ' + s.where.value().ip() + " slot.invalid " +
                             (s.admin == admin_state::ready ? "4" : "5") + " 6 0\n";
            }
        }
        seen.dump += '\n';
        return seen;
    }

    // Lets one pass go to its end; what was sent, one command a word group, joined by "; ".
    std::string pass() {
        w.now += 1ms;
        w.c.confirmed = w.now;
        std::string sent;
        looks = 0;
        todo what = p.begin(given);
        while (!std::holds_alternative<rest>(what)) {
            if (const auto* commands = std::get_if<send>(&what)) {
                for (const auto& c : commands->batch)
                    sent += (sent.empty() ? "" : "; ") + render(c);
                what = p.answered(on_send(commands->batch), w.now, w.now);
            } else if (const auto* count = std::get_if<count_sessions>(&what)) {
                counted += (counted.empty() ? "" : ", ") + count->backend;
                what = p.counted(sessions, w.now);
            } else {
                REQUIRE(++looks < 100);
                what = p.seen(on_look(), w.now);
            }
        }
        for (note& n : p.take_notes())
            log += n.text + '\n';
        for (event& e : p.take_events())
            happened.push_back(std::move(e));
        return sent;
    }

    bool logged(const std::string& text) const { return log.find(text) != std::string::npos; }

    runtime_api::result<void> carry_out(const std::vector<runtime_api::command>& batch) {
        for (const auto& c : batch)
            apply(slots_of.at(slot_of(c).backend()), c);
        return {};
    }

    world w;
    std::map<std::string, std::vector<runtime_api::slot>> slots_of{
        {"primary", slots("primary", "pg1 maint, pg2 maint")}, {"replicas", slots("replicas", "pg1 maint, pg2 maint")}};
    runtime_api::process_info process{"2.6.12", 2, 6, 100, 5000, false};
    std::function<runtime_api::result<runtime_api::observation>()> on_look = [this] { return observation(); };
    std::function<runtime_api::result<void>(const std::vector<runtime_api::command>&)> on_send =
        [this](const auto& batch) { return carry_out(batch); };
    int looks{};
    orders given;
    std::string log;
    std::vector<event> happened;
    std::string counted; // backends
    std::vector<runtime_api::server_statistics> sessions;
    passes p{{{w.settings, w.c, 5s}}, "/haproxy.sock"};
};

runtime_api::process_info with_pid(runtime_api::process_info process, std::int64_t pid) {
    process.pid = pid;
    return process;
}

} // namespace

TEST_CASE("pass: addresses, then states, then nothing more to do", "[pass]") {
    scene s;
    CHECK(s.pass() ==
          "set server primary/pg1 addr 10.0.0.1 port 5432; set server primary/pg2 addr 10.0.0.2 port 5432; "
          "set server replicas/pg1 addr 10.0.0.1 port 5432; set server replicas/pg2 addr 10.0.0.2 port 5432; "
          "set server primary/pg2 state maint; shutdown sessions server primary/pg2; "
          "set server primary/pg1 state ready; set server primary/pg1 health up");
    CHECK(s.pass().empty());
    CHECK(text_of(s.slots_of.at("primary")) == "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
}

TEST_CASE("pass: what a pool gets waits until what it loses is seen to be away", "[pass]") {
    scene s;
    s.pass();
    s.w.leader("n2").says("n1", standby()).says("n2", writable());
    std::string at_second_look;
    s.on_look = [&s, &at_second_look] {
        if (s.looks == 2)
            at_second_look = text_of(s.slots_of.at("primary"));
        return s.observation();
    };

    CHECK(s.pass() == "set server primary/pg1 state maint; shutdown sessions server primary/pg1; "
                      "set server primary/pg1 state maint; shutdown sessions server primary/pg1; "
                      "set server primary/pg2 state ready; set server primary/pg2 health up");
    CHECK(at_second_look == "pg1 maint 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
}

TEST_CASE("pass: each slot's change is an event, with the sessions that were cut with it", "[pass]") {
    scene s;
    s.pass();
    s.happened.clear();
    s.w.leader("n2").says("n1", standby()).says("n2", writable());
    s.sessions = {{"primary", "pg1", "UP", 3}, {"primary", "pg2", "MAINT", 0}, {"primary", "BACKEND", "UP", 3}};

    s.pass();

    CHECK(s.counted == "primary");
    REQUIRE(s.happened.size() >= 2);
    const event& cut = s.happened[0];
    CHECK(cut.subject == "primary/pg1");
    CHECK(cut.member == "n1");
    CHECK(cut.text == "ready -> maint; 3 sessions cut");
    CHECK(cut.why == "R2: the leader key names another member");
    CHECK(cut.cut == 3);
    CHECK(cut.commands == std::vector<sent_command>{{"set server primary/pg1 state maint", true, 0},
                                                    {"shutdown sessions server primary/pg1", true, 0}});
    CHECK(s.happened[1].subject == "primary/pg2");
    CHECK(s.happened[1].text == "maint -> ready");
    CHECK(!s.happened[1].cut);
}

TEST_CASE("pass: paused or in the shadow nothing is sent, and what would be is told", "[pass]") {
    const auto how = GENERATE(conduct::paused, conduct::shadow);
    scene s;
    s.pass();
    s.happened.clear();
    s.given = {how, "03:00"};
    s.w.leader("n2").says("n1", standby()).says("n2", writable());

    CHECK(s.pass().empty());
    CHECK(s.pass().empty());

    REQUIRE(s.happened.size() == 1);
    CHECK(s.happened[0].text.starts_with(std::string(how == conduct::paused ? "paused" : "shadow") +
                                         ": 4 command(s) would be sent: `set server primary/pg1 state maint` (R2: the "
                                         "leader key names another member)"));
    CHECK(s.p.rules_of_sessions().empty());

    SECTION("until it acts again") {
        s.given = {};
        CHECK(s.pass().starts_with("set server primary/pg1 state maint"));
        CHECK(!s.p.rules_of_sessions().empty());
    }
    SECTION("until somebody else has done it") {
        s.carry_out({runtime_api::set_state{*runtime_api::slot_id::parse("primary", "pg1"), admin_state::maint},
                     runtime_api::set_state{*runtime_api::slot_id::parse("primary", "pg2"), admin_state::ready}});
        CHECK(s.pass().empty());
        CHECK(s.happened.back().text.starts_with("as it would be, after "));
    }
}

TEST_CASE("pass: a refused command is an event too", "[pass]") {
    scene s;
    s.pass();
    s.happened.clear();
    s.w.leader("n2").says("n1", standby()).says("n2", writable());
    s.on_send = [](const auto&) { return failure{errc::refused, "Permission denied"}; };

    s.pass();

    REQUIRE(s.happened.size() == 2);
    CHECK((s.happened[0].how == severity::error && s.happened[0].text == "ready -> maint"));
    CHECK(!s.happened[0].commands.at(0).taken);
    CHECK((s.happened[1].kind == "pool" && s.happened[1].text == "Permission denied; trying again every 1 s"));
    s.pass();
    CHECK(s.happened.size() == 3); // the slot's; that of the pool lasts
}

TEST_CASE("pass: a drained slot is given up for the leader in a primary pool alone (R10)", "[pass]") {
    scene s;
    s.w.member("n3").says("n3", standby(), 2);
    s.reads("n2");
    s.w.reads("n3", standby());
    const std::string no_slot_free = "pg1 ready 10.0.0.2:5432, pg2 drain 10.0.0.3:5432 unchecked";
    for (const std::string pool : {"replicas", "primary"})
        s.slots_of.at(pool) = slots(pool, no_slot_free);
    s.pass();
    s.pass();
    CHECK(text_of(s.slots_of.at("replicas")) == no_slot_free);
    CHECK(text_of(s.slots_of.at("primary")) == "pg1 maint 10.0.0.2:5432, pg2 ready 10.0.0.1:5432");
}

TEST_CASE("pass: a HAProxy that is replaced before the writer gets its slot has no other one ready", "[pass]") {
    scene s;
    s.pass();
    const auto in_file = s.slots_of.at("primary");
    s.w.leader("n2").says("n1", standby()).says("n2", writable());
    std::string two;
    s.on_send = [&s, &in_file, &two](const auto& batch) {
        const auto ready = [](const auto& c) {
            const auto* change = std::get_if<runtime_api::set_state>(&c);
            return change && change->state == admin_state::ready;
        };
        if (std::ranges::any_of(batch, ready))
            s.slots_of.at("primary") = in_file; // as the new process has restored them
        for (const auto& c : batch) {
            apply(s.slots_of.at(slot_of(c).backend()), c);
            if (ready(c))
                two += text_of(s.slots_of.at("primary")) + '\n';
        }
        return runtime_api::result<void>();
    };

    s.pass();

    CHECK(two == "pg1 maint 10.0.0.1:5432, pg2 ready 10.0.0.2:5432\n");
}

TEST_CASE("pass: a refused command ends the pass of its pool, not of the others", "[pass]") {
    scene s;
    s.reads("n2");
    s.on_send = [&s](const auto& batch) -> runtime_api::result<void> {
        if (slot_of(batch.front()).backend() == "primary")
            return failure{errc::refused, "`set server primary/pg1 ...`: No such server."};
        return s.carry_out(batch);
    };

    s.pass();

    CHECK(text_of(s.slots_of.at("primary")) == "pg1 maint, pg2 maint");
    CHECK(text_of(s.slots_of.at("replicas")) == "pg1 maint 10.0.0.1:5432, pg2 ready 10.0.0.2:5432");
    CHECK(s.logged("pool primary: `set server primary/pg1 ...`: No such server.; trying again"));
}

TEST_CASE("pass: sessions that were to be cut are cut later where the command failed", "[pass]") {
    scene s;
    s.pass();
    s.w.leader("n2").says("n1", standby());
    // The slot is in maint already when the answer to the rest of the line is lost.
    s.on_send = [&s](const auto& batch) -> runtime_api::result<void> {
        s.carry_out({batch.front()});
        return failure{errc::timeout, "no answer in time"};
    };
    CHECK(s.pass() == "set server primary/pg1 state maint; shutdown sessions server primary/pg1");
    CHECK(s.pass() == "shutdown sessions server primary/pg1");

    s.on_send = [&s](const auto& batch) { return s.carry_out(batch); };
    SECTION("until it has not") {
        CHECK(s.pass() == "shutdown sessions server primary/pg1");
        CHECK(s.pass().empty());
    }
    SECTION("unless they may stay by then") {
        s.w.leader("n1").says("n1", writable()).says("n2", standby());
        CHECK(s.pass() == "set server primary/pg1 state ready; set server primary/pg1 health up");
        CHECK(s.pass().empty());
    }
    SECTION("unless they are another process' by then, whose own they never were") {
        s.process.pid = 200;
        CHECK(s.pass().empty());
    }
}

TEST_CASE("pass: an address that HAProxy changes later is waited for, for 50 looks", "[pass]") {
    scene s;
    s.slots_of.erase("replicas");
    std::vector<runtime_api::command> late;
    const int appears = GENERATE(2, 30, 1000);
    CAPTURE(appears);
    s.on_send = [&s, &late](const auto& batch) -> runtime_api::result<void> {
        if (std::holds_alternative<runtime_api::set_address>(batch.front()))
            late.push_back(batch.front());
        else
            s.carry_out(batch);
        return {};
    };
    s.on_look = [&s, &late, appears] {
        if (s.looks == appears)
            s.carry_out(std::exchange(late, {}));
        return s.observation();
    };

    s.pass();

    const bool seen = appears < 50;
    CHECK(text_of(s.slots_of.at("primary")) ==
          (seen ? "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432" : "pg1 maint, pg2 maint"));
    CHECK(s.logged("but the slot did not change") != seen);
}

TEST_CASE("pass: a command that HAProxy takes without effect is not sent for ever", "[pass]") {
    scene s;
    s.pass();
    s.slots_of.at("primary") = slots("primary", "pg1 maint 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
    s.on_send = [](const auto&) { return runtime_api::result<void>(); };

    CHECK(s.pass() == "set server primary/pg1 state ready; set server primary/pg1 health up");
    CHECK(s.logged("HAProxy took `set server primary/pg1 state ready` but the slot did not change"));
}

TEST_CASE("pass: an old worker's answer is no answer: the new one is asked within the same pass", "[pass]") {
    scene s;
    int refusals = 0;
    SECTION("to the observation") {
        s.on_look = [&s, &refusals]() -> runtime_api::result<runtime_api::observation> {
            if (++refusals <= 5)
                return failure{errc::stopping, "process 1 is an old worker that is stopping"};
            return s.observation();
        };
    }
    SECTION("to a command") {
        s.on_send = [&s, &refusals](const auto& batch) -> runtime_api::result<void> {
            if (++refusals <= 5)
                return failure{errc::stopping, "`...`: Proxy is disabled. (an old worker answered)"};
            return s.carry_out(batch);
        };
    }

    s.pass();

    CHECK(refusals > 5);
    CHECK(text_of(s.slots_of.at("primary")) == "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
    CHECK_FALSE(s.logged("trying"));
}

TEST_CASE("pass: an old worker that never goes away ends the pass", "[pass]") {
    scene s;
    s.on_look = []() -> runtime_api::result<runtime_api::observation> { return failure{errc::stopping, "old"}; };
    CHECK(s.pass().empty());
    CHECK(s.looks == 21);
    CHECK(s.logged("no slot can be changed until it answers"));
}

TEST_CASE("pass: a HAProxy that does not answer is told once, and again when it does", "[pass]") {
    scene s;
    s.on_look = []() -> runtime_api::result<runtime_api::observation> {
        return failure{errc::unreachable, "haproxy /haproxy.sock: connection refused"};
    };
    s.pass();
    s.pass();
    CHECK(s.log == "haproxy /haproxy.sock: connection refused; no slot can be changed until it answers, trying on\n");
    s.on_look = [&s] { return s.observation(); };
    s.pass();
    CHECK(s.logged("haproxy /haproxy.sock: answers again"));
}

TEST_CASE("pass: what the heartbeat says is news where the process is another, or answers no longer", "[pass]") {
    scene s;
    CHECK(s.p.is_news(s.process));
    s.pass();

    CHECK_FALSE(s.p.is_news(s.process));
    CHECK(s.p.is_news(with_pid(s.process, 101)));
    auto restarted = s.process;
    restarted.start_time += 1;
    CHECK(s.p.is_news(restarted));
    auto stopping = s.process;
    stopping.stopping = true;
    CHECK(s.p.is_news(stopping));

    const failure down{errc::unreachable, "down"};
    CHECK(s.p.is_news(down));
    s.on_look = [&down]() -> runtime_api::result<runtime_api::observation> { return down; };
    s.pass();
    CHECK_FALSE(s.p.is_news(down)); // told already
    CHECK(s.p.is_news(s.process));
}

TEST_CASE("pass: HAProxy replaced by one that has lost its slots gets them back in one pass", "[pass]") {
    scene s;
    s.reads("n2");
    s.pass();
    const auto before = s.slots_of;
    s.process.pid = 200;
    s.slots_of = {{"primary", slots("primary", "pg1 maint, pg2 maint")},
                  {"replicas", slots("replicas", "pg1 maint, pg2 maint")}};

    s.pass();

    CHECK(text_of(s.slots_of.at("primary")) == text_of(before.at("primary")));
    CHECK(text_of(s.slots_of.at("replicas")) == text_of(before.at("replicas")));
    CHECK(s.logged("another process: 200 instead of 100"));
}

TEST_CASE("pass: what the old process was told counts for nothing when it is replaced within the pass", "[pass]") {
    scene s;
    s.slots_of.erase("replicas");
    s.on_look = [&s] {
        if (s.looks == 2) { // the addresses were taken, by a process that is gone
            s.process.pid = 200;
            s.slots_of.at("primary") = slots("primary", "pg1 maint, pg2 maint");
        }
        return s.observation();
    };

    s.pass();

    CHECK(text_of(s.slots_of.at("primary")) == "pg1 ready 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
    CHECK_FALSE(s.logged("did not change"));
}

TEST_CASE("pass: a new process that has its slots already gets their full health, once", "[pass]") {
    scene s;
    s.reads("n2");
    s.pass();
    CHECK(s.pass().empty());
    CHECK(s.p.state_file());
    CHECK_FALSE(s.p.state_file());
    s.process.pid = 200;

    SECTION("in every slot in service") {
        CHECK(s.pass() == "set server primary/pg1 health up; set server replicas/pg2 health up");
        CHECK_FALSE(s.logged("drifted"));
        CHECK(s.pass().empty());
        CHECK(s.p.state_file());
    }
    SECTION("also when it refuses it at first") {
        s.on_send = [](const auto&) -> runtime_api::result<void> { return failure{errc::timeout, "late"}; };
        s.pass();
        s.on_send = [&s](const auto& batch) { return s.carry_out(batch); };
        CHECK(s.pass() == "set server primary/pg1 health up; set server replicas/pg2 health up");
    }
    SECTION("beside what is changed") {
        s.w.reads("n1", standby(), 2);
        s.slots_of.at("replicas") = slots("replicas", "pg1 ready 10.0.0.1:5432, pg2 ready 10.0.0.2:5432");
        CHECK(s.pass() == "set server primary/pg1 health up; set server replicas/pg1 state drain; "
                          "set server replicas/pg1 health up; disable health replicas/pg1; "
                          "set server replicas/pg2 health up");
    }
}

TEST_CASE("pass: drift is told, and repaired", "[pass]") {
    scene s;
    s.pass();
    s.slots_of.at("primary") = slots("primary", "pg1 drain 10.0.0.1:5432, pg2 maint 10.0.0.2:5432");
    CHECK(s.pass() == "set server primary/pg1 state ready");
    CHECK(s.logged("slot primary/pg1 drifted"));

    s.log.clear();
    s.slots_of.at("primary") = slots("primary", "pg1 ready 10.0.0.1:5432 w0, pg2 maint 10.0.0.2:5432");
    CHECK(s.pass() == "set server primary/pg1 weight 1");
    CHECK(s.logged("slot primary/pg1 drifted"));
}

TEST_CASE("pass: the state file holds of each pool what was right last", "[pass]") {
    scene s;
    s.reads("n2");
    s.on_send = [&s](const auto& batch) -> runtime_api::result<void> {
        if (slot_of(batch.front()).backend() == "replicas")
            return failure{errc::refused, "no"};
        return s.carry_out(batch);
    };
    s.pass();
    const std::string head = "1\n# be_name srv_name srv_addr srv_fqdn srv_admin_state srv_check_state srv_agent_port\n";
    const std::string primary = "primary pg1 10.0.0.1 slot.invalid 4 6 0\nprimary pg2 10.0.0.2 slot.invalid 5 6 0\n";
    CHECK(s.p.state_file().value_or("none") == head + primary); // a broken pool keeps the other's from no file
    s.pass();
    CHECK_FALSE(s.p.state_file());

    s.on_send = [&s](const auto& batch) { return s.carry_out(batch); };
    s.pass();
    const std::string replicas = "replicas pg1 10.0.0.1 slot.invalid 5 6 0\nreplicas pg2 10.0.0.2 slot.invalid 4 6 0\n";
    CHECK(s.p.state_file().value_or("none") == head + primary + replicas);

    // A demotion that HAProxy refuses: the file does not learn of what stands there half-way.
    s.w.leader("n2").says("n1", standby());
    s.on_send = [](const auto&) -> runtime_api::result<void> { return failure{errc::refused, "no"}; };
    s.pass();
    CHECK_FALSE(s.p.state_file());
}

TEST_CASE("pass: while a cluster is not known the state file holds what HAProxy has", "[pass]") {
    scene s;
    s.w.c = {};
    s.slots_of = {{"primary", slots("primary", "pg1 ready 10.0.0.7:5432")}};
    s.pass();
    CHECK(s.p.state_file().value_or("none").ends_with("primary pg1 10.0.0.7 slot.invalid 4 6 0\n"));
}

TEST_CASE("pass: old workers' sessions with a demoted leader end, a replica's stay", "[pass]") {
    scene s;
    s.reads("n2");
    s.pass();
    CHECK(s.p.rules_of_sessions().at("primary") ==
          session_rule{{{address("10.0.0.1:5432"), false}, {address("10.0.0.2:5432"), true}}, true});
    CHECK(s.p.rules_of_sessions().at("replicas") ==
          session_rule{{{address("10.0.0.1:5432"), false}, {address("10.0.0.2:5432"), false}}, false});

    s.w.leader("n2").says("n1", standby());
    s.pass();
    CHECK(s.p.rules_of_sessions().at("primary").ends.at(address("10.0.0.1:5432")));
    CHECK_FALSE(s.p.rules_of_sessions().at("primary").others_end); // nobody is the writer yet

    s.w.reads("n2", dead());
    s.pass();
    CHECK(s.p.rules_of_sessions().at("replicas").ends.at(address("10.0.0.2:5432")));
}

TEST_CASE("pass: no session ends in an old worker because its member is only silent, or etcd away", "[pass]") {
    scene s;
    s.pass();
    s.w.says("n1", silent());
    s.pass();
    CHECK_FALSE(s.p.rules_of_sessions().at("primary").ends.at(address("10.0.0.1:5432")));
    s.w.says("n1", writable()).no_leader();
    s.pass();
    CHECK_FALSE(s.p.rules_of_sessions().at("primary").ends.at(address("10.0.0.1:5432")));
}

TEST_CASE("pass: a backend that HAProxy does not have is told, the others are served", "[pass]") {
    scene s;
    s.reads("n2");
    s.slots_of.erase("primary");
    s.pass();
    CHECK(s.logged("HAProxy has no backend primary with slots"));
    CHECK(text_of(s.slots_of.at("replicas")) == "pg1 maint 10.0.0.1:5432, pg2 ready 10.0.0.2:5432");
}
