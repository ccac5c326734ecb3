#include "etcd_http/gateway.hpp"

#include "etcd_http/codec.hpp"
#include "etcd_http/exchange.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <exception>
#include <optional>
#include <random>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace pointsman::etcd_http {

namespace asio = boost::asio;

using asio::awaitable;
using std::chrono::milliseconds;
using clock = std::chrono::steady_clock;

namespace {

// A cluster's keys are a few kB; a whole history of years is some hundred.
constexpr std::size_t max_body = std::size_t{16} << 20;
constexpr std::size_t max_line = std::size_t{16} << 20;

struct endpoint {
    gateway_endpoint where;
    std::vector<std::string> addresses{}; // the one in use first
    bool look_up{true};
    std::string prefix{"/v3"}; // an older one still works after an upgrade of etcd (facts 5.0)
    bool prefix_known{};
    std::string token{}; // etcd's simple tokens are refreshed only by use of the member that is asked: one for each
};

// A failure of the way to the peer, which another address may not have.
bool is_of_connection(const failure& why) {
    return why.kind == errc::unreachable || why.kind == errc::refused || why.kind == errc::timeout;
}

// One that stays until somebody changes a configuration, and that costs etcd a password hash for each attempt.
bool is_of_configuration(const failure& why) {
    return why.kind == errc::denied || why.kind == errc::unauthorised || why.kind == errc::unusable;
}

failure of_etcd(failure why) {
    why.detail.insert(0, "etcd ");
    return why;
}

// Everything that one follow() keeps between its steps.
struct following {
    std::string prefix;
    const follower& who;
    key_cache cache;
    std::size_t turn{};     // of the endpoint in use
    std::size_t failures{}; // since the last poll that succeeded beside a watch
    bool watch_owes{};      // a poll found a change, and the watch has delivered nothing since
};

// Takes a watch's body and tells the follower. Ends the watch by leaving `ended`.
class watch_reader {
public:
    explicit watch_reader(following& f) : following_(f) {}

    stream_wish operator()(std::string_view piece) {
        lines_.feed(piece);
        while (const auto line = lines_.next()) {
            const auto message = parse_watch(*line);
            if (!message)
                return end(message.error());
            if (message->canceled) // etcd leaves the stream open and silent (facts 5.3)
                return end(cancellation(*message));
            if (message->created) {
                established_ = true;
                following_.who.watching(true);
            }
            const verdict what = following_.cache.apply(*message);
            if (what == verdict::stale || what == verdict::gone_back)
                return end({errc::stale, "watch: a message of an older term or of another cluster"});
            if (!message->events.empty())
                following_.watch_owes = false;
            if (what == verdict::changed)
                following_.who.changed(following_.cache.snapshot());
        }
        if (lines_.overflowed())
            return end({errc::too_large, "watch: a message of more than " + std::to_string(max_line) + " bytes"});
        return established_ ? stream_wish::for_ever : stream_wish::in_time;
    }

    // Why the watch is over, after its stream has ended of itself.
    failure at_end() {
        if (ended_)
            return *ended_;
        if (!lines_.rest().empty()) // the error object that ends a stream has no line feed
            if (const auto last = parse_watch(lines_.rest()); !last)
                return last.error();
        return {errc::unreachable, "watch: ended by the server"};
    }

private:
    stream_wish end(failure why) {
        ended_ = std::move(why);
        return stream_wish::stop;
    }

    following& following_;
    line_splitter lines_{max_line};
    bool established_{};
    std::optional<failure> ended_;
};

} // namespace

struct gateway::state {
    explicit state(gateway_settings s) : settings(std::move(s)) {
        assert(!settings.endpoints.empty());
        for (const gateway_endpoint& where : settings.endpoints) {
            if (where.tls && !settings.tls) // never in plain text instead: the password would go with it
                throw std::invalid_argument("an etcd endpoint with TLS, and no TLS settings");
            endpoints.push_back({.where = where});
        }
    }

    http_request request_to(const endpoint& e, std::string path, std::string body) const;
    failure about(const endpoint& e, failure why) const;
    std::optional<milliseconds> pause_after(const following& f, const failure& why);

    awaitable<result<http_reply>> ask(http_request request);
    awaitable<std::optional<failure>> locate(endpoint& e);
    awaitable<std::optional<failure>> authenticate(endpoint& e);
    awaitable<void> detect_prefix(endpoint& e);
    awaitable<result<std::string>> post(endpoint& e, std::string path, std::string body);
    awaitable<result<range_reply>> full_read(endpoint& e, std::string prefix);
    awaitable<std::optional<failure>> refresh(following& f, endpoint& e);
    awaitable<failure> watch(following& f, endpoint& e);
    awaitable<failure> poll(following& f, endpoint& e);
    awaitable<failure> session(following& f, endpoint& e);

    gateway_settings settings;
    std::vector<endpoint> endpoints; // never grows: references to its elements are kept across waits
    std::minstd_rand random{std::random_device{}()};
};

http_request gateway::state::request_to(const endpoint& e, std::string path, std::string body) const {
    http_request request;
    request.method = "POST";
    request.ip = e.addresses.front();
    request.host = e.where.host;
    request.port = e.where.port;
    request.tls = e.where.tls ? settings.tls : nullptr;
    request.target = e.prefix + std::move(path);
    request.headers = {{"Content-Type", "application/json"}, {"Grpc-Metadata-hasleader", "true"}};
    if (!e.token.empty())
        request.headers.emplace_back("Authorization", e.token);
    request.body = std::move(body);
    return request;
}

// Names the endpoint in a failure that the codec found.
failure gateway::state::about(const endpoint& e, failure why) const {
    why.detail = peer_name(request_to(e, {}, {})) + ": " + why.detail;
    return of_etcd(std::move(why));
}

// Finds the addresses of `e` where none is known or those known have failed; old ones are better than none. Returns the
// failure, if any (result<void> in a coroutine: g++ 12 warns of uninitialised parts of it).
awaitable<std::optional<failure>> gateway::state::locate(endpoint& e) {
    if (!e.look_up)
        co_return std::nullopt;
    auto found = co_await resolve(e.where.host);
    if (found) {
        e.addresses = std::move(*found);
        e.look_up = false;
    } else if (e.addresses.empty()) {
        co_return of_etcd(found.error());
    }
    co_return std::nullopt;
}

awaitable<result<http_reply>> gateway::state::ask(http_request request) {
    auto reply = co_await exchange(request, settings.deadline, max_body);
    if (!reply)
        co_return of_etcd(reply.error());
    co_return std::move(*reply);
}

// One request and the body of its 200. A token that is refused is renewed once, a gateway that is not there is looked
// for once under the prefix of older versions.
awaitable<result<std::string>> gateway::state::post(endpoint& e, std::string path, std::string body) {
    bool renewed = false;
    for (;;) {
        const http_request request = request_to(e, path, body);
        const std::string token = e.token;
        auto reply = co_await ask(request);
        if (!reply)
            co_return reply.error();
        if (reply->status == 200)
            co_return std::move(reply->body);
        const failure why = about(e, parse_error(reply->status, reply->body));
        if (why.kind == errc::unauthorised && !settings.username.empty() && !renewed) {
            renewed = true;
            if (e.token == token) { // nobody else has renewed it meanwhile
                auto failed = co_await authenticate(e);
                if (failed)
                    co_return *failed;
            }
        } else if (reply->status == 404 && !e.prefix_known) {
            co_await detect_prefix(e);
            if (request.target == e.prefix + path)
                co_return why;
        } else {
            co_return why;
        }
    }
}

awaitable<std::optional<failure>> gateway::state::authenticate(endpoint& e) {
    e.token.clear();
    const http_request request =
        request_to(e, "/auth/authenticate", authenticate_request(settings.username, settings.password));
    auto reply = co_await ask(request);
    if (!reply)
        co_return reply.error();
    if (reply->status != 200)
        co_return about(e, parse_error(reply->status, reply->body));
    auto token = parse_authenticate(reply->body);
    if (!token)
        co_return about(e, token.error());
    e.token = std::move(*token);
    co_return std::nullopt;
}

awaitable<void> gateway::state::detect_prefix(endpoint& e) {
    http_request request = request_to(e, {}, {});
    request.method = "GET";
    request.target = "/version";
    auto reply = co_await ask(request);
    if (!reply || reply->status != 200)
        co_return;
    e.prefix = gateway_prefix(reply->body);
    e.prefix_known = true;
}

awaitable<result<range_reply>> gateway::state::full_read(endpoint& e, std::string prefix) {
    auto lost = co_await locate(e);
    if (lost)
        co_return *lost;
    const std::string body = range_request(prefix);
    for (std::size_t tried = 1;; ++tried) {
        auto reply = co_await post(e, "/kv/range", body);
        if (reply) {
            auto read = parse_range(*reply);
            if (!read)
                co_return about(e, read.error());
            co_return std::move(*read);
        }
        if (!is_of_connection(reply.error()))
            co_return reply.error();
        e.look_up = true;
        std::rotate(e.addresses.begin(), e.addresses.begin() + 1, e.addresses.end());
        if (tried >= e.addresses.size())
            co_return reply.error();
    }
}

// A full read, told to the follower; the failure where there is nothing to tell.
awaitable<std::optional<failure>> gateway::state::refresh(following& f, endpoint& e) {
    const std::int64_t asked_at = f.cache.snapshot().revision;
    auto reply = co_await full_read(e, f.prefix);
    if (!reply) {
        f.cache.unanswered();
        co_return reply.error();
    }
    const reply_header header = reply->header;
    const verdict what = f.cache.apply(std::move(*reply), asked_at, clock::now());
    if (what == verdict::stale || what == verdict::gone_back) {
        const std::string found = "revision " + std::to_string(header.revision) + ", term " +
                                  std::to_string(header.raft_term) + " of cluster " + std::to_string(header.cluster_id);
        const std::string known =
            "revision " + std::to_string(asked_at) + " of cluster " + std::to_string(f.cache.snapshot().cluster_id);
        co_return about(e, {what == verdict::stale ? errc::stale : errc::gone_back, found + ", after " + known});
    }
    if (what == verdict::changed) {
        f.watch_owes = true;
        f.who.changed(f.cache.snapshot());
    }
    f.who.confirmed();
    co_return std::nullopt;
}

awaitable<failure> gateway::state::watch(following& f, endpoint& e) {
    const http_request request = request_to(e, "/watch", watch_request(f.prefix, f.cache.snapshot().revision + 1));
    watch_reader reader(f);
    const stream_reader read = std::ref(reader);
    auto reply = co_await stream(request, settings.deadline, max_body, read);
    if (!reply)
        co_return of_etcd(reply.error());
    if (reply->status != 200)
        co_return about(e, parse_error(reply->status, reply->body));
    co_return about(e, reader.at_end());
}

// Returns when a read fails, or when the watch has kept silent about a change for a whole interval. A change found by a
// poll a moment before the watch delivers it is no reason yet.
awaitable<failure> gateway::state::poll(following& f, endpoint& e) {
    auto executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    for (;;) {
        timer.expires_after(settings.poll_interval);
        co_await timer.async_wait(asio::use_awaitable);
        if (f.watch_owes)
            co_return about(e, {errc::stale, "watch: silent about a change that a read found"});
        auto failed = co_await refresh(f, e);
        if (failed)
            co_return *failed;
        f.failures = 0;
    }
}

// Watch and poll side by side until one of them fails; the other one is cancelled and waited for, so the references
// that both hold are safe.
awaitable<failure> gateway::state::session(following& f, endpoint& e) {
    auto executor = co_await asio::this_coro::executor;
    f.watch_owes = false;
    auto both = asio::experimental::make_parallel_group(asio::co_spawn(executor, watch(f, e), asio::deferred),
                                                        asio::co_spawn(executor, poll(f, e), asio::deferred));
    auto done = co_await both.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
    f.who.watching(false);
    const auto& [order, watch_threw, watch_ended, poll_threw, poll_ended] = done;
    const bool watch_first = order[0] == 0;
    if (const std::exception_ptr& threw = watch_first ? watch_threw : poll_threw)
        std::rethrow_exception(threw);
    co_return watch_first ? watch_ended : poll_ended;
}

// How long to wait before the next endpoint: not at all until each has failed once since one worked.
std::optional<milliseconds> gateway::state::pause_after(const following& f, const failure& why) {
    if (f.failures < endpoints.size())
        return std::nullopt;
    if (is_of_configuration(why))
        return std::max(settings.poll_interval, milliseconds(2000));
    const std::size_t doublings = std::min<std::size_t>(f.failures - endpoints.size(), 5);
    const milliseconds longest = std::min(milliseconds(100 << doublings), milliseconds(2000));
    std::uniform_int_distribution<milliseconds::rep> jitter(longest.count() / 2, longest.count());
    return milliseconds(jitter(random));
}

gateway::gateway(gateway_settings settings) : state_(std::make_unique<state>(std::move(settings))) {}

gateway::~gateway() = default;

awaitable<result<key_snapshot>> gateway::read(std::string prefix) {
    failure last;
    for (endpoint& e : state_->endpoints) {
        auto reply = co_await state_->full_read(e, prefix);
        if (reply) {
            key_cache cache(1);
            cache.apply(std::move(*reply), 0, clock::now());
            co_return cache.snapshot();
        }
        last = reply.error();
    }
    co_return last;
}

awaitable<void> gateway::follow(std::string prefix, const follower& who) {
    following f{.prefix = std::move(prefix), .who = who, .cache = key_cache(state_->endpoints.size())};
    auto executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    for (;;) {
        endpoint& e = state_->endpoints[f.turn % state_->endpoints.size()];
        auto failed = co_await state_->refresh(f, e);
        failure why = failed ? std::move(*failed) : failure();
        if (!failed)
            why = co_await state_->session(f, e);
        who.failed(why);
        ++f.failures;
        if (failed || why.kind != errc::compacted) // read again where the start revision was too old
            ++f.turn;
        const auto pause = state_->pause_after(f, why);
        if (pause) {
            timer.expires_after(*pause);
            co_await timer.async_wait(asio::use_awaitable);
        }
    }
}

} // namespace pointsman::etcd_http
