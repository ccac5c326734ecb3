#include "etcd_http/key_cache.hpp"

#include <catch2/catch.hpp>
#include <rapidcheck.h>

using namespace pointsman::etcd_http;
using namespace std::chrono_literals;

namespace {

using keys = std::map<std::string, key_value>;

constexpr key_cache::time_point start{};

range_reply read_of(std::uint64_t cluster, std::int64_t revision, keys found = {}, std::uint64_t term = 2) {
    return {{cluster, revision, term}, std::move(found)};
}

key_event put(std::string key, std::string value, std::int64_t revision) {
    return {false, std::move(key), {std::move(value), revision}};
}

key_event erase(std::string key, std::int64_t revision) {
    return {true, std::move(key), {"", revision}};
}

watch_message events(std::vector<key_event> what, std::uint64_t cluster = 1, std::uint64_t term = 2) {
    watch_message message;
    message.header = {cluster, what.empty() ? 0 : what.back().now.mod_revision, term};
    message.events = std::move(what);
    return message;
}

// A cache of three endpoints that follows cluster 1 at revision 10 with /a = 1.
key_cache at_ten() {
    key_cache cache(3);
    cache.apply(read_of(1, 10, {{"/a", {"1", 4}}}), 0, start);
    return cache;
}

} // namespace

TEST_CASE("key cache: the first read is told even where there is no key", "[key_cache]") {
    key_cache cache(1);
    CHECK(cache.apply(read_of(1, 5), 0, start) == verdict::changed);
    CHECK(cache.snapshot().revision == 5);
    CHECK(cache.snapshot().cluster_id == 1);
    CHECK(cache.snapshot().store == 1);
}

TEST_CASE("key cache: a read that finds the same keys changes nothing but the revision", "[key_cache]") {
    auto cache = at_ten();
    CHECK(cache.apply(read_of(1, 12, {{"/a", {"1", 4}}}), 10, start) == verdict::unchanged);
    CHECK(cache.snapshot().revision == 12);
}

TEST_CASE("key cache: a read finds what a watch has lost, deletes too", "[key_cache]") {
    auto cache = at_ten();
    CHECK(cache.apply(read_of(1, 12, {{"/b", {"2", 11}}}), 10, start) == verdict::changed);
    CHECK(cache.snapshot().keys == keys{{"/b", {"2", 11}}});
}

TEST_CASE("key cache: events of one message are applied together", "[key_cache]") {
    auto cache = at_ten();
    CHECK(cache.apply(events({erase("/a", 11), put("/b", "2", 11)})) == verdict::changed);
    CHECK(cache.snapshot().keys == keys{{"/b", {"2", 11}}});
    CHECK(cache.snapshot().revision == 11);
}

TEST_CASE("key cache: a message without events changes nothing", "[key_cache]") {
    auto cache = at_ten();
    CHECK(cache.apply(events({})) == verdict::unchanged);
    CHECK(cache.snapshot().revision == 10);
}

TEST_CASE("key cache: an event that is not newer than what is there is ignored", "[key_cache]") {
    auto cache = at_ten();
    cache.apply(events({put("/a", "3", 13)}));

    CHECK(cache.apply(events({put("/a", "2", 12)})) == verdict::unchanged);
    CHECK(cache.apply(events({put("/a", "again", 13)})) == verdict::unchanged);
    CHECK(cache.apply(events({erase("/a", 12)})) == verdict::unchanged);
    CHECK(cache.apply(events({put("/old", "x", 9)})) == verdict::unchanged); // the read at 10 would have found it
    CHECK(cache.snapshot().keys == keys{{"/a", {"3", 13}}});
    CHECK(cache.snapshot().revision == 13);
}

TEST_CASE("key cache: a late event does not bring a deleted key back", "[key_cache]") {
    auto cache = at_ten();
    cache.apply(events({erase("/a", 13)}));
    CHECK(cache.apply(events({put("/a", "2", 12)})) == verdict::unchanged);
    CHECK(cache.snapshot().keys.empty());
    CHECK(cache.apply(events({put("/a", "4", 14)})) == verdict::changed);
}

TEST_CASE("key cache: an event that comes after a newer one of another key still counts", "[key_cache]") {
    auto cache = at_ten();
    cache.apply(events({put("/b", "2", 13)}));
    CHECK(cache.apply(events({put("/c", "3", 12)})) == verdict::changed);
    CHECK(cache.snapshot().keys.size() == 3);
    CHECK(cache.snapshot().revision == 13);
}

TEST_CASE("key cache: a read that a watch has overtaken is no fault and changes nothing", "[key_cache]") {
    auto cache = at_ten();
    cache.apply(events({put("/a", "2", 12)}));
    CHECK(cache.apply(read_of(1, 11, {{"/a", {"1", 4}}}), 10, start) == verdict::unchanged);
    CHECK(cache.snapshot().keys == keys{{"/a", {"2", 12}}});
    CHECK(cache.snapshot().revision == 12);
}

TEST_CASE("key cache: an older answer of the same cluster is stale while another endpoint may know better",
          "[key_cache]") {
    auto [name, revision, term] = GENERATE(table<std::string, std::int64_t, std::uint64_t>(
        {{"lower revision", 9, 2}, {"lower term", 20, 1}, {"lower revision, higher term", 9, 3}}));
    CAPTURE(name);
    auto cache = at_ten();
    CHECK(cache.apply(read_of(1, revision, {}, term), 10, start) == verdict::stale);
    CHECK(cache.snapshot().keys == keys{{"/a", {"1", 4}}});
    CHECK(cache.snapshot().revision == 10);
}

TEST_CASE("key cache: an answer without a term is judged by its revision", "[key_cache]") {
    auto cache = at_ten();
    CHECK(cache.apply(read_of(1, 11, {}, 0), 10, start) == verdict::changed);
}

TEST_CASE("key cache: stale answers from every endpoint in turn mean a store that has gone back", "[key_cache]") {
    auto cache = at_ten();
    CHECK(cache.apply(read_of(1, 3), 10, start) == verdict::stale);
    CHECK(cache.apply(read_of(1, 3), 10, start + 1s) == verdict::stale);
    CHECK(cache.apply(read_of(1, 4), 10, start + 2s) == verdict::gone_back);
    CHECK(cache.snapshot().revision == 10);
}

TEST_CASE("key cache: an endpoint that does not answer cannot speak for the old store", "[key_cache]") {
    auto cache = at_ten();
    cache.unanswered(); // before there is any doubt: does not count
    CHECK(cache.apply(read_of(1, 3), 10, start) == verdict::stale);
    cache.unanswered();
    CHECK(cache.apply(read_of(1, 3), 10, start) == verdict::gone_back);
}

TEST_CASE("key cache: another cluster id is known at once", "[key_cache]") {
    auto cache = at_ten();
    CHECK(cache.apply(read_of(2, 900, {{"/x", {"9", 800}}}), 10, start) == verdict::gone_back);
    CHECK(cache.snapshot().cluster_id == 1);
    CHECK(cache.snapshot().keys == keys{{"/a", {"1", 4}}});
}

TEST_CASE("key cache: a new store that alone has answered for the whole trial is followed", "[key_cache]") {
    auto [name, cluster] = GENERATE(table<std::string, std::uint64_t>({{"restored", 1}, {"another id", 2}}));
    CAPTURE(name);
    auto cache = at_ten();
    const keys restored{{"/a", {"0", 2}}};
    for (auto after = 0s; after < key_cache::trial; after += 1s)
        REQUIRE(cache.apply(read_of(cluster, 3, restored), 10, start + after) != verdict::changed);
    CHECK(cache.apply(read_of(cluster, 3, restored), 10, start + key_cache::trial) == verdict::changed);
    CHECK(cache.snapshot().keys == restored);
    CHECK(cache.snapshot().revision == 3);
    CHECK(cache.snapshot().cluster_id == cluster);
    CHECK(cache.snapshot().store == 2);

    // from here on it is the store, and the old one is the stranger
    CHECK(cache.apply(events({put("/a", "1", 4)}, cluster)) == verdict::changed);
    CHECK(cache.apply(read_of(3 - cluster, 50), 4, start + 31s) != verdict::changed);
}

TEST_CASE("key cache: one answer of the old store ends the trial", "[key_cache]") {
    auto cache = at_ten();
    cache.apply(read_of(2, 3), 10, start);
    cache.apply(read_of(2, 3), 10, start + 20s);
    CHECK(cache.apply(read_of(1, 10, {{"/a", {"1", 4}}}), 10, start + 25s) == verdict::unchanged);
    CHECK(cache.apply(read_of(2, 3), 10, start + 40s) == verdict::gone_back);
    CHECK(cache.apply(read_of(2, 3), 10, start + 69s) == verdict::gone_back);
    CHECK(cache.apply(read_of(2, 3), 10, start + 70s) == verdict::changed);
}

TEST_CASE("key cache: a trial needs one and the same store", "[key_cache]") {
    auto cache = at_ten();
    for (auto after = 0s; after < 120s; after += 1s)
        REQUIRE(cache.apply(read_of(2 + static_cast<std::uint64_t>(after.count()) % 2, 3), 10, start + after) ==
                verdict::gone_back);
}

TEST_CASE("key cache: a trial needs every endpoint to have been asked", "[key_cache]") {
    auto cache = at_ten();
    cache.apply(read_of(2, 3), 10, start);
    CHECK(cache.apply(read_of(2, 3), 10, start + 60s) == verdict::gone_back);
    CHECK(cache.apply(read_of(2, 3), 10, start + 61s) == verdict::changed);
}

TEST_CASE("key cache: a watch of another cluster or an older term is not believed", "[key_cache]") {
    auto cache = at_ten();
    CHECK(cache.apply(events({put("/a", "2", 11)}, 2)) == verdict::gone_back);
    CHECK(cache.apply(events({put("/a", "2", 11)}, 1, 1)) == verdict::stale);
    CHECK(cache.snapshot().keys == keys{{"/a", {"1", 4}}});
}

namespace {

// A store with its whole history, as the truth to compare with.
struct store {
    std::vector<key_event> log; // log[i] has revision i + 1

    keys at(std::int64_t revision) const {
        keys found;
        for (const key_event& event : log) {
            if (event.now.mod_revision > revision)
                break;
            if (event.deleted)
                found.erase(event.key);
            else
                found.insert_or_assign(event.key, event.now);
        }
        return found;
    }
};

} // namespace

TEST_CASE("key cache: late reads, repeated and lost events never make it go back, and a read makes it right",
          "[key_cache]") {
    CHECK(rc::check([] {
        store truth;
        key_cache cache(2);
        cache.apply(read_of(1, 1), 0, start);
        truth.log.push_back(put("/other", "", 1));
        std::int64_t told = 1;
        std::map<std::string, std::int64_t> newest; // of each key that was ever told
        const int steps = *rc::gen::inRange(1, 40);
        for (int step = 0; step < steps; ++step) {
            const auto newest_revision = static_cast<std::int64_t>(truth.log.size());
            const auto any_revision = *rc::gen::inRange<std::int64_t>(1, newest_revision + 1);
            switch (*rc::gen::inRange(0, 4)) {
                case 0:   // something happens, and the watch loses it
                case 1: { // something happens, and the watch delivers it
                    const std::string key = *rc::gen::elementOf(std::vector<std::string>{"/a", "/b", "/c"});
                    const bool gone = *rc::gen::arbitrary<bool>();
                    truth.log.push_back(gone ? erase(key, newest_revision + 1)
                                             : put(key, std::to_string(step), newest_revision + 1));
                    if (*rc::gen::arbitrary<bool>())
                        cache.apply(events({truth.log.back()}));
                    break;
                }
                case 2: // the watch repeats itself
                    cache.apply(events({truth.log[static_cast<std::size_t>(any_revision) - 1]}));
                    break;
                case 3: // a read, as late as can be
                    cache.apply(read_of(1, any_revision, truth.at(any_revision)), 0, start);
                    break;
            }
            RC_ASSERT(cache.snapshot().revision >= told);
            told = cache.snapshot().revision;
            for (const auto& [key, kv] : cache.snapshot().keys) {
                RC_ASSERT(kv.mod_revision >= newest[key]);
                newest[key] = kv.mod_revision;
            }
        }
        const auto last = static_cast<std::int64_t>(truth.log.size());
        cache.apply(read_of(1, last, truth.at(last)), told, start);
        RC_ASSERT(cache.snapshot().revision == last);
        RC_ASSERT(cache.snapshot().keys == truth.at(last));
    }));
}
