// An etcd of a few lines, with faults that the real one shows rarely.
#pragma once

#include "etcd_http/codec.hpp"

#include "fake_server.hpp"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace pointsman::test {

class fake_etcd {
public:
    explicit fake_etcd(std::string ip = "127.0.30.1")
        : server_([this](const std::string& request) { return reply(request); }, std::move(ip)) {}

    // Faults, to be set at any time.
    std::atomic<bool> reads_hang{};
    std::atomic<bool> watches_hang{};
    std::atomic<bool> watches_end{};
    std::atomic<bool> compacted{};       // the next watch finds its start revision compacted
    std::atomic<const char*> garbage{};  // instead of what a read found
    std::atomic<const char*> password{}; // authentication is on
    std::atomic<const char*> gateway{"/v3"};
    std::atomic<const char*> version{R"({"etcdserver":"3.4.23","etcdcluster":"3.4.0"})"};
    std::atomic<std::uint64_t> cluster{7};

    void put(const std::string& key, const std::string& value) {
        set(key, value);
        tell(key);
    }

    // A change that no watch delivers.
    void set(const std::string& key, const std::string& value) {
        const std::scoped_lock lock(mutex_);
        keys_[key] = {value, ++revision_};
    }

    // The key's last change comes to every watch.
    void tell(const std::string& key) { send_to_watches(chunk(event(key) + "\n")); }

    void start_at(std::int64_t revision) {
        const std::scoped_lock lock(mutex_);
        revision_ = revision;
    }

    void expire_tokens() {
        const std::scoped_lock lock(mutex_);
        tokens_.clear();
    }

    void send_to_watches(std::string bytes, afterwards then = afterwards::keep) {
        server_.send_to_kept("/watch ", std::move(bytes), then);
    }

    std::size_t watches() const { return server_.kept("/watch "); }
    std::size_t asked(std::string_view what) const { return server_.requests(what).size(); }
    const fake_server& server() const { return server_; }

    etcd_http::gateway_endpoint endpoint() const { return {false, server_.ip(), server_.port()}; }

private:
    std::string header() const {
        return R"("header":{"cluster_id":")" + std::to_string(cluster) + R"(","revision":")" +
               std::to_string(revision_) + R"(","raft_term":"2"})";
    }

    static std::string key_value(const std::string& key, const etcd_http::key_value& kv) {
        return R"({"key":")" + etcd_http::base64_encode(key) + R"(","mod_revision":")" +
               std::to_string(kv.mod_revision) + R"(","value":")" + etcd_http::base64_encode(kv.value) + R"("})";
    }

    std::string event(const std::string& key) const {
        const std::scoped_lock lock(mutex_);
        return R"({"result":{)" + header() + R"(,"events":[{"kv":)" + key_value(key, keys_.at(key)) + "}]}}";
    }

    answer reply(const std::string& request) {
        const std::string prefix = gateway.load();
        const auto is = [&request, &prefix](const char* path) { return request.starts_with("POST " + prefix + path); };
        if (request.starts_with("GET /version "))
            return {http_answer(200, version.load())};
        if (is("/auth/authenticate "))
            return authenticate(request);
        const bool read = is("/kv/range ");
        if (!read && !is("/watch "))
            return {http_answer(404, "404 page not found\n", "text/plain; charset=utf-8")};
        if (read ? reads_hang : watches_hang)
            return {"", afterwards::keep};
        const std::scoped_lock lock(mutex_);
        if (password.load() && std::ranges::none_of(tokens_, [&request](const std::string& token) {
                return request.find("\r\nAuthorization: " + token + "\r\n") != request.npos;
            }))
            return {http_answer(401, R"({"error":"etcdserver: invalid auth token","code":16})")};
        return read ? range() : watch();
    }

    answer authenticate(const std::string& request) {
        if (request.find(R"("password":")" + std::string(password.load()) + '"') == request.npos)
            return {http_answer(400, R"({"error":"etcdserver: authentication failed, invalid user ID or password",)"
                                     R"("code":3})")};
        const std::scoped_lock lock(mutex_);
        tokens_.push_back("token." + std::to_string(++authenticated_));
        return {http_answer(200, R"({"token":")" + tokens_.back() + R"("})")};
    }

    answer range() const {
        if (garbage.load())
            return {http_answer(200, garbage.load())};
        std::string kvs;
        for (const auto& [key, kv] : keys_)
            kvs += (kvs.empty() ? "" : ",") + key_value(key, kv);
        return {http_answer(200, "{" + header() + R"(,"kvs":[)" + kvs + R"(],"count":")" +
                                     std::to_string(keys_.size()) + R"("})")};
    }

    answer watch() {
        std::string text = chunked_head() + chunk(R"({"result":{)" + header() +
                                                  R"(,"created":true}})"
                                                  "\n");
        if (compacted.exchange(false))
            text += chunk(R"({"result":{)" + header() +
                          R"(,"canceled":true,"compact_revision":"5"}})"
                          "\n");
        return {text, watches_end ? afterwards::cut : afterwards::keep};
    }

    mutable std::mutex mutex_;
    std::int64_t revision_{1};
    std::map<std::string, etcd_http::key_value> keys_;
    std::vector<std::string> tokens_;
    int authenticated_{};
    fake_server server_; // last: its thread uses the others
};

} // namespace pointsman::test
