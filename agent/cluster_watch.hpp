// Keeps the knowledge of one cluster (cluster.hpp) current: follows its keys in etcd, resolves its members' names and
// probes its nodes. What a pool should look like is decided elsewhere, from the values that this holds.
#pragma once

#include "agent/cluster.hpp"
#include "agent/fault.hpp"
#include "agent/note.hpp"
#include "agent/probe.hpp"
#include "agent/task_group.hpp"
#include "config/settings.hpp"
#include "etcd_http/gateway.hpp"
#include "etcd_http/tls.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace pointsman::agent {

class alarm;
class journal;
class metrics;

class cluster_watch {
public:
    // `changed` is called, on the executor, when something happened that may change what is desired. `settings` must
    // outlive this. Each cluster has a gateway of its own: a broken one delays no other (R14).
    cluster_watch(const boost::asio::any_io_executor& executor, const config::cluster_settings& settings,
                  etcd_http::gateway_settings etcd, etcd_http::tls_context probe_tls, journal& told, metrics& counted,
                  std::function<void()> changed);
    ~cluster_watch();
    cluster_watch(const cluster_watch&) = delete;
    cluster_watch& operator=(const cluster_watch&) = delete;

    // Begins with what was known of the same cluster under an earlier configuration, instead of with nothing: etcd may
    // be away (R4). To be called before run().
    void begin_with(cluster known);

    // Until cancelled; all that it started has ended by then.
    boost::asio::awaitable<void> run();

    const config::cluster_settings& settings() const { return settings_; }
    const cluster& state() const { return cluster_; }
    std::chrono::milliseconds poll_interval() const { return poll_interval_; }

private:
    struct resolved_name {
        std::vector<std::string> addresses; // of the last look-up that brought any
        std::string trouble;                // of the last look-up
        time_point asked{};
        bool under_way{};
    };

    void take_keys(const etcd_http::key_snapshot& snapshot);
    void etcd_confirmed();
    void etcd_failed(const etcd_http::failure& why);
    void report_refusals(const std::vector<etcd_http::refusal>& refusals);
    void report_leader();
    void tell(severity how, std::string kind, std::string text, std::string member = {});

    boost::asio::awaitable<void> housekeeping();
    void refresh_addresses();
    const resolved_name* look_up(const std::string& host);
    boost::asio::awaitable<void> resolve_name(std::string host);
    std::optional<runtime_api::address> address_of(const std::string& member,
                                                   const std::optional<etcd_http::host_port>& where,
                                                   const std::optional<runtime_api::address>& current);

    void start_probers();
    void wake_probers(const std::string& member);
    boost::asio::awaitable<void> probe_loop(std::string member, std::string path);
    const etcd_http::tls_context& tls();
    std::optional<probe_target> target_of(const std::string& name, const std::string& path);
    void take_outcome(const std::string& name, const std::string& path, const outcome& o);
    std::chrono::milliseconds next_delay(const std::string& name, const std::string& path) const;

    boost::asio::any_io_executor executor_;
    const config::cluster_settings& settings_;
    std::string prefix_;
    std::chrono::milliseconds poll_interval_;
    etcd_http::gateway gateway_;
    etcd_http::tls_context probe_tls_;
    journal& journal_;
    metrics& metrics_;
    std::function<void()> changed_;

    cluster cluster_;
    std::set<check> checks_;
    std::map<std::string, resolved_name> names_;
    std::map<std::pair<std::string, std::string>, std::unique_ptr<alarm>> probers_; // by member and path
    std::map<std::string, std::string> refused_;                                    // member → reason, as logged last
    fault etcd_trouble_;
    bool etcd_gone_back_{}; // told since etcd answered last
    std::uint64_t store_{}; // the store of etcd that is followed (key_cache.hpp); 0: none was read yet
    task_group tasks_;
};

} // namespace pointsman::agent
