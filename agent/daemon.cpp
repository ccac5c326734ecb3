#include "agent/daemon.hpp"

#include "agent/api.hpp"
#include "agent/cluster_watch.hpp"
#include "agent/file_keeper.hpp"
#include "agent/journal.hpp"
#include "agent/log.hpp"
#include "agent/metrics.hpp"
#include "agent/old_workers.hpp"
#include "agent/pause.hpp"
#include "agent/reconciler.hpp"
#include "agent/release.hpp"
#include "agent/report.hpp"
#include "agent/run_to_end.hpp"
#include "agent/status_page.hpp"
#include "agent/task_group.hpp"
#include "agent/wiring.hpp"
#include "config/load.hpp"
#include "etcd_http/patroni.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <csignal>
#include <stdexcept>

namespace pointsman::agent {

namespace asio = boost::asio;

namespace {

// As systemd's watchdog in deploy/pointsman.service.
constexpr std::chrono::seconds progress_within{15};

constexpr std::chrono::seconds watched_for{3}; // after the status page was fed last
constexpr std::size_t most_shown = 40;         // of its events

time_point steady_now() {
    return std::chrono::steady_clock::now();
}

// systemd's view of the daemon: ready after the first pass, alive with every further one. Does nothing elsewhere.
class notifier {
public:
    void passed() {
        sd_notify(0, ready_ ? "WATCHDOG=1" : "READY=1\nWATCHDOG=1");
        ready_ = true;
    }
    void reloading() {
        sd_notify(0, "RELOADING=1");
        ready_ = false;
    }
    void stopping() { sd_notify(0, "STOPPING=1"); }

private:
    bool ready_{};
};

// What is the same for every configuration.
struct surroundings {
    asio::any_io_executor executor;
    const daemon_options& options;
    metrics& counted;
    journal& told;
    std::function<void()> passed;
};

// All that runs for one configuration.
class generation {
public:
    // Reads the files that the configuration names; throws std::runtime_error where one cannot be used.
    generation(const surroundings& around, config::settings settings)
        : settings_(std::move(settings)), around_(around), tasks_(around.executor) {
        const auto& executor = around.executor;
        const auto etcd = gateway_settings(settings_.etcd);
        std::vector<const cluster_watch*> watches;
        for (const config::cluster_settings& cluster : settings_.clusters) {
            watches_.push_back(std::make_unique<cluster_watch>(executor, cluster, etcd, probe_tls(cluster.probe),
                                                               around.told, around.counted,
                                                               [this] { reconciler_->wake(); }));
            watches.push_back(watches_.back().get());
        }
        if (!settings_.haproxy.state_file.empty() && !around.options.shadow)
            keep_files();
        const auto passed = [this] {
            if (old_workers_)
                old_workers_->passed();
            around_.passed();
        };
        reconciler_ = std::make_unique<reconciler>(
            executor, runtime_api::session(haproxy_target(settings_)), watches, state_file_.get(), around.told,
            around.counted, [this] { return given(); }, passed);
        if (!around.options.shadow)
            pause_ = std::make_unique<pause_watch>(executor, disk_.get_executor(), pause_file(settings_), around.told,
                                                   [this] { reconciler_->wake(); });
        if (!settings_.haproxy.master_socket.empty())
            old_workers_ = std::make_unique<old_workers>(
                executor, runtime_api::master(settings_.haproxy.master_socket),
                [this] { return reconciler_->state().rules_of_sessions(); }, around.told);
    }

    // Throws std::runtime_error where the port is in use.
    void listen() {
        if (!settings_.listen)
            return;
        const std::string json = "application/json";
        const std::string text = "text/plain";
        pages served;
        served["/"] = {"text/html; charset=utf-8", [] { return page_body(std::string(status_page)); }};
        served["/api/v1/slots"] = {json, [this] { return render_json(reconciler_->state().rows()); }};
        served["/api/v1/events"] = {json, [this] { return render_events(around_.told.all()); }};
        served["/api/v1/state"] = {json, [this] { return render_state(reconciler_->state(), steady_now()); }};
        streams live;
        live["/api/v1/live"] = [this] { return live_state(); };
        served["/metrics"] = {"text/plain; version=0.0.4",
                              [this] { return around_.counted.text(reconciler_->state(), steady_now()); }};
        served["/healthz"] = {text, [this] { return progress(); }};
        served["/readyz"] = {text, [this] { return readiness(); }};
        api_ = std::make_unique<api>(around_.executor, *settings_.listen, std::move(served), std::move(live));
    }

    // What the one before it knows of the clusters that both follow.
    void begin_with(const generation& before) {
        for (auto& watch : watches_) {
            for (const auto& old : before.watches_) {
                if (config::key_prefix(old->settings()) == config::key_prefix(watch->settings()))
                    watch->begin_with(old->state());
            }
        }
    }

    void start() {
        for (auto& watch : watches_)
            tasks_.spawn(watch->run());
        tasks_.spawn(reconciler_->run());
        around_.told.keep_in(journal_file_.get());
        for (file_keeper* keeper : {state_file_.get(), journal_file_.get()}) {
            if (keeper)
                tasks_.spawn(keeper->run());
        }
        if (pause_)
            tasks_.spawn(pause_->run());
        if (old_workers_)
            tasks_.spawn(old_workers_->run());
        if (api_)
            tasks_.spawn(api_->run());
    }

    asio::awaitable<void> stop() {
        tasks_.cancel();
        co_await tasks_.wait();
        around_.told.keep_in(nullptr);
        api_.reset(); // the port is free for the next generation
    }

    const config::settings& settings() const { return settings_; }

private:
    orders given() const {
        orders result = around_.options.shadow ? orders{.how = conduct::shadow} : pause_->now();
        result.watched = steady_now() < watched_until_;
        return result;
    }

    // What the status page shows.
    std::string live_state() {
        watched_until_ = steady_now() + watched_for;
        history last = around_.told.all();
        last.erase(last.begin(), last.end() - static_cast<std::ptrdiff_t>(std::min(last.size(), most_shown)));
        return fmt::format(R"({{"state":{},"events":{}}})", render_state(reconciler_->state(), steady_now()),
                           render_events(last));
    }

    void keep_files() {
        const std::string& path = settings_.haproxy.state_file;
        state_file_ = std::make_unique<file_keeper>(
            around_.executor, disk_.get_executor(),
            kept_file{"state file", path,
                      "a HAProxy that restarts now begins with its slots of before, until the agent has put "
                      "them right",
                      std::chrono::milliseconds(0)});
        journal_file_ = std::make_unique<file_keeper>(around_.executor, disk_.get_executor(),
                                                      kept_file{"journal", journal::file_beside(path),
                                                                "what happens is not known to the next daemon",
                                                                std::chrono::seconds(1)});
    }

    page_body progress() const {
        if (reconciler_->passed() == time_point{})
            return {"no pass has ended yet\n", false};
        const auto age = steady_now() - reconciler_->passed();
        return {fmt::format("the last pass ended {:.1f} s ago\n", std::chrono::duration<double>(age).count()),
                age < progress_within};
    }

    page_body readiness() const {
        std::string text;
        for (const std::string& complaint : complaints(reconciler_->state(), steady_now()))
            text += etcd_http::printable(complaint, 400) + '\n';
        return text.empty() ? page_body("every pool is in step\n") : page_body(std::move(text), false);
    }

    config::settings settings_;
    surroundings around_;
    asio::thread_pool disk_{1};
    time_point watched_until_{};
    std::vector<std::unique_ptr<cluster_watch>> watches_;
    std::unique_ptr<file_keeper> state_file_;
    std::unique_ptr<file_keeper> journal_file_;
    std::unique_ptr<reconciler> reconciler_;
    std::unique_ptr<pause_watch> pause_;
    std::unique_ptr<old_workers> old_workers_;
    std::unique_ptr<api> api_;
    task_group tasks_;
};

// What SIGHUP does to the configuration: a whole new generation, or nullptr (and a log line) where the file is bad.
std::unique_ptr<generation> reload(const surroundings& around) {
    try {
        auto next = std::make_unique<generation>(around, config::load_file(around.options.config_path));
        set_up_log(next->settings().log);
        return next;
    } catch (const std::exception& e) {
        spdlog::error("{}; the configuration stays as it was", e.what());
        return nullptr;
    }
}

void listen_again(generation& g) {
    try {
        g.listen();
    } catch (const std::runtime_error& e) {
        spdlog::error("{}; going on without it", e.what());
    }
}

asio::awaitable<void> serve(std::unique_ptr<generation> running, const surroundings& around, notifier& systemd) {
    asio::signal_set signals(around.executor, SIGTERM, SIGINT, SIGHUP);
    running->start();
    for (;;) {
        auto [error, signal] = co_await signals.async_wait(asio::as_tuple(asio::use_awaitable));
        if (error || signal != SIGHUP)
            break;
        spdlog::info("SIGHUP: reading {} again", around.options.config_path);
        around.told.add({.kind = "agent", .text = "SIGHUP: reading the configuration again"});
        systemd.reloading();
        if (auto next = reload(around)) {
            co_await running->stop();
            next->begin_with(*running);
            running = std::move(next);
            listen_again(*running);
            running->start();
        } else {
            systemd.passed();
        }
    }
    systemd.stopping();
    co_await running->stop();
    if (around.options.shadow)
        co_return;
    spdlog::info("stopping: HAProxy goes on with its slots as they are, and its own checks judge them");
    const runtime_api::session session(haproxy_target(running->settings()));
    const auto backends = backends_of(running->settings());
    const auto released = co_await release_checks(session, backends);
    if (released.has_error())
        spdlog::error("{}", released.error().detail);
    around.told.add({.kind = "agent", .text = "stopped"});
    const std::string journal_file = journal::file_beside(running->settings().haproxy.state_file);
    if (!journal_file.empty())
        around.told.write(journal_file);
}

} // namespace

void run_daemon(config::settings settings, const daemon_options& options) {
    asio::io_context context(1);
    notifier systemd;
    metrics counted(options.version);
    journal told;
    if (!options.shadow)
        told.go_on_from(journal::file_beside(settings.haproxy.state_file));
    told.add({.kind = "agent", .text = "started, version " + options.version});
    const surroundings around{context.get_executor(), options, counted, told, [&systemd] { systemd.passed(); }};
    auto first = std::make_unique<generation>(around, std::move(settings));
    first->listen();
    run_to_end(context, serve(std::move(first), around, systemd));
}

} // namespace pointsman::agent
