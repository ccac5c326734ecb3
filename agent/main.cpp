#include "agent/check_command.hpp"
#include "agent/daemon.hpp"
#include "agent/events_command.hpp"
#include "agent/haproxy_config.hpp"
#include "agent/log.hpp"
#include "agent/pause.hpp"
#include "agent/release.hpp"
#include "agent/slots_command.hpp"
#include "agent/why_command.hpp"
#include "config/load.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>

namespace {

using namespace pointsman;

// Exit status (design 5): 0 done, 1 found something wrong, 2 used wrongly, 3 a part did not answer.
constexpr int used_wrongly = 2;
constexpr int no_answer = 3;

int run(const config::settings& settings, const std::string& path, bool shadow) {
    agent::set_up_log(settings.log);
    spdlog::info("pointsman {}: {} cluster(s) from {}", POINTSMAN_VERSION, settings.clusters.size(), path);
    if (settings.haproxy.master_socket.empty())
        spdlog::info(
            "haproxy.master_socket is not set: sessions that HAProxy's old workers hold on a demoted node after a "
            "reload are not cut (R9)");
    if (shadow)
        spdlog::warn("SHADOW: HAProxy is observed, and nothing is sent to it");
    agent::run_daemon(settings, {path, POINTSMAN_VERSION, shadow});
    return EXIT_SUCCESS;
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("Keeps HAProxy's server slots in step with Patroni clusters, without reloads.", "pointsman");
    app.set_version_flag("--version", "pointsman " POINTSMAN_VERSION);
    app.require_subcommand(1);
    app.fallthrough();
    std::string path = "/etc/pointsman/pointsman.yml";
    app.add_option("--config", path, "Configuration file")->capture_default_str();

    auto* run_it = app.add_subcommand("run", "The daemon; SIGHUP reads the configuration file again");
    bool shadow = false;
    run_it->add_flag("--shadow", shadow, "Send nothing, and tell where HAProxy differs from what it would be");
    auto* slots = app.add_subcommand("slots", "The slot map as HAProxy has it now; works with the daemon dead");
    bool json = false;
    agent::slots_options map;
    auto* as_json = slots->add_flag("--json", map.json, "As a JSON array");
    slots->add_flag("--watch", map.watch, "Drawn anew every second, until interrupted")->excludes(as_json);
    auto* why = app.add_subcommand(
        "why", "Why a member or a slot is where it is: every input with its age, the rule, what would change it");
    std::string what;
    why->add_option("what", what, "A member, or BACKEND/SLOT")->required();
    why->add_flag("--json", json, "As a JSON array");
    auto* plan = app.add_subcommand("plan", "The commands that the daemon's next pass would send, and why each");
    plan->add_flag("--json", json, "As a JSON array");
    auto* events = app.add_subcommand("events", "What happened last, each with its cause, commands, answers and times");
    agent::events_options shown;
    events->add_option("--last", shown.last, "How many")->capture_default_str();
    events->add_flag("--cut", shown.cut, "Only those with which sessions were cut");
    events->add_flag("--json", shown.json, "As a JSON array");
    auto* pause = app.add_subcommand("pause", "Has the daemon observe and send nothing for a while");
    std::chrono::seconds::rep lasts = 600;
    pause->add_option("--for", lasts, "For how long, at most 24h: 90s, 10m, 2h")
        ->transform(
            CLI::AsNumberWithUnit(std::map<std::string, std::chrono::seconds::rep>{{"s", 1}, {"m", 60}, {"h", 3600}},
                                  CLI::AsNumberWithUnit::UNIT_REQUIRED))
        ->check(CLI::Range(1L, std::chrono::seconds(agent::longest_pause).count()))
        ->option_text("TIME (10m)");
    auto* resume = app.add_subcommand("resume", "Ends the pause");
    auto* haproxy_config =
        app.add_subcommand("haproxy-config", "Prints what haproxy.cfg must hold for this configuration");
    bool no_lua = false;
    haproxy_config->add_flag("--no-lua", no_lua,
                             "For a HAProxy without Lua: connections that wait for a slot look for one every second");
    auto* check_it = app.add_subcommand(
        "check", "Preflight: the configuration, etcd, the REST APIs and the running HAProxy; changes nothing");
    auto* release_it = app.add_subcommand(
        "release", "Gives HAProxy's own checks back on every slot, for when the daemon is not there to do it");

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e, std::cout, std::cerr) == 0 ? EXIT_SUCCESS : used_wrongly;
    }

    try {
        const config::settings settings = config::load_file(path);
        if (run_it->parsed())
            return run(settings, path, shadow);
        if (slots->parsed())
            return agent::slots_command(settings, map);
        if (why->parsed())
            return agent::why_command(settings, what, json);
        if (plan->parsed())
            return agent::plan_command(settings, json);
        if (events->parsed())
            return agent::events_command(settings, shown);
        if (pause->parsed())
            return agent::pause_command(settings, std::chrono::seconds(lasts));
        if (resume->parsed())
            return agent::resume_command(settings);
        if (haproxy_config->parsed()) {
            fmt::print("{}", no_lua ? agent::haproxy_config(settings, "") : agent::haproxy_config(settings));
            return EXIT_SUCCESS;
        }
        if (check_it->parsed())
            return agent::check_command(settings, path);
        if (release_it->parsed()) {
            agent::set_up_log(settings.log);
            return agent::release_command(settings);
        }
    } catch (const config::config_error& e) {
        fmt::print(stderr, "{}\n", e.what());
        return used_wrongly;
    } catch (const std::exception& e) {
        fmt::print(stderr, "pointsman: {}\n", e.what());
        return no_answer;
    }
    return used_wrongly;
}
