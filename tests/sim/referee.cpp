#include "referee.hpp"

#include "world.hpp"

#include <algorithm>

namespace pointsman::sim {

using namespace std::chrono_literals;

namespace {

// From a new leader key to the last session on the old leader and to the end of its slot: the watch takes 5 ms, a pass
// some exchanges of 1 ms each, and one that has just begun is waited for (as in tests/chaos).
constexpr auto told = 500ms;
// After which the agent knows and acts again when it has back what a fault took: its full read of etcd every 5 s, the
// exchange or read that was under way and ends with its deadline, the back-off.
constexpr auto recovers = 10s;
// An old worker is swept once a second.
constexpr auto swept = 2500ms;
// What somebody did to slots is seen by the resync and put right in the same pass.
constexpr auto repaired = 2500ms;
// Between the agent's look and its command somebody else may have been quicker: one exchange, and a look after it.
constexpr auto in_flight = 30ms;
// A healthy cluster is served: a replica needs two yeses, and one that was on an older timeline is waited for 10 s; an
// orphan goes after 10 s; a member gone from etcd is forgotten after 10 s.
constexpr auto served = 20s;
// For how long what a node or etcd said may be the reason of a cut: until the agent's exchange with a slow node or a
// HAProxy that had hung is over.
constexpr auto reason_lasts = 6s;
constexpr auto key_lasts = 15s; // the leader key decides while it is readable
// A member that is gone from etcd and silent is forgotten after 10 s, and what was its slot drained after 10 s more.
constexpr auto orphan_goes = 25s;
// A switchover that nobody carries out holds new connections no longer (R12).
constexpr auto request_lasts = 15s;
// In ten seconds: ten resyncs, and some drift of the clock that draws them.
constexpr std::uint64_t passes_at_rest = 14;
// While things happen, every answer of a node may be a reason; deciding probes are 8 ms apart and mostly none.
constexpr std::uint64_t passes_at_most = 300;

} // namespace

time_point referee::now() const {
    return w_.clock.now();
}

void referee::fail(std::string name, std::string what) {
    if (broken_)
        return;
    w_.tell("BROKEN", [&] { return name + ": " + what; });
    broken_ = broken_invariant{std::move(name), std::move(what), now()};
}

void referee::take(part p) {
    ++taken_[static_cast<std::size_t>(p)];
    if (p == part::etcd)
        etcd_taken_ = now();
}

void referee::give_back(part p, duration later) {
    const auto i = static_cast<std::size_t>(p);
    --taken_[i];
    back_[i] = std::max(back_[i], now() + later);
}

std::optional<time_point> referee::sighted(bool etcd_too) const {
    time_point since{};
    for (std::size_t i = 0; i != taken_.size(); ++i) {
        if (i == static_cast<std::size_t>(part::etcd) && !etcd_too)
            continue;
        if (taken_[i] > 0)
            return std::nullopt;
        since = std::max(since, back_[i]);
    }
    return since;
}

void referee::key_changed(const std::string& key) {
    if (key == "leader") {
        leaders_.emplace_back(now(), w_.cluster.leader().value_or(""));
        return;
    }
    if (key == "failover") {
        const auto asked = w_.store.get(w_.cluster.key(key)).value_or("{}");
        asked_ = asked == "{}" ? std::nullopt : std::optional(now());
    }
    if (!key.starts_with("members/"))
        return;
    const auto value = w_.store.get(w_.cluster.key(key)).value_or("");
    const auto begin = value.find("10.0.0.");
    const std::string ip = begin == value.npos ? "" : value.substr(begin, value.find(':', begin) - begin);
    std::string& known = address_of_[key];
    if (known != ip) {
        moved_[known] = moved_[ip] = settled_ = now();
        known = ip;
    }
}

void referee::node_said(int host, heard what) {
    words& said = said_[host];
    if (what == heard::otherwise)
        said.otherwise = now();
    if (what == heard::refused)
        said.dead = now();
    if (what == heard::yes)
        said.first_no.reset();
    if (what == heard::soft_no) {
        if (!said.first_no)
            said.first_no = now();
        else if (now() - *said.first_no >= 990ms)
            said.second_no = now();
    }
}

// Where etcd says that it is.
std::string referee::ip_told(const node& n) const {
    const auto it = address_of_.find("members/" + n.name);
    return it == address_of_.end() || it->second.empty() ? w_.ip_of(n) : it->second;
}

// Whether the leader key named another member at some time of late.
bool referee::named_another(const std::string& name, duration within) const {
    for (std::size_t i = leaders_.size(); i != 0; --i) {
        const auto& [since, leader] = leaders_[i - 1];
        if (!leader.empty() && leader != name)
            return true;
        if (since < now() - within)
            return false;
    }
    return false;
}

// --- what may never be

void referee::given(const proxy_slot& s) {
    if (s.pending)
        return fail("no wrong address ready", to_string(s.id) + " is given while its address change is under way");
    for (const auto& row : w_.running->passes().rows()) {
        if (row.backend != s.id.backend() || row.slot != s.id.server() || !row.member)
            continue;
        const auto m = w_.running->state().members.find(*row.member);
        const bool right = m != w_.running->state().members.end() && m->second.connect == s.where;
        if (!right && now() - replaced_ > in_flight && now() - by_hand_ > in_flight)
            fail("no wrong address ready",
                 to_string(s.id) + " is given to " + *row.member + " with " + to_string(s.where));
    }
}

void referee::cut(const proxy_slot& s, const proxy_session& session, by whom) {
    ++w_.counts.cut;
    if (whom == by::agent && !justified(s, session))
        fail("only demotion and death cut", "a session in " + to_string(s.id) + " with " + to_string(session.to) +
                                                " is cut, and nobody has said a reason");
    const node* leader = w_.leader();
    const auto since = sighted();
    const bool agent_sees = since && now() - *since > recovers && now() - by_hand_ > recovers;
    const bool leads = leader && session.to.ip() == ip_told(*leader) && leader->takes_sessions() &&
                       leader->is_writable() && !leaders_.empty() && now() - leaders_.back().first > recovers;
    if (whom == by::check && s.id.backend() == "primary" && agent_sees && leads)
        fail("HAProxy's check judges only when the agent does not",
             "it has cut a session with the leader, which takes writes");
}

bool referee::justified(const proxy_slot& s, const proxy_session& session) const {
    if (now() - by_hand_ < repaired || now() - s.touched < repaired || now() - replaced_ < in_flight)
        return true;
    const std::string& ip = session.to.ip();
    const bool members = std::ranges::any_of(address_of_, [&ip](const auto& m) { return m.second == ip; });
    const auto moved = moved_.find(ip);
    if (!members || (moved != moved_.end() && now() - moved->second < key_lasts))
        return true;
    const auto host = w_.host_of(ip);
    const auto said = said_.find(host);
    const bool dead = said != said_.end() && now() - said->second.dead < reason_lasts;
    if (s.id.backend() != "primary" || dead)
        return dead;
    const bool no = said != said_.end() && (now() - said->second.otherwise < reason_lasts ||
                                            now() - said->second.second_no < reason_lasts);
    const auto member = std::ranges::find(address_of_, ip, [](const auto& m) { return m.second; });
    return no || named_another(member->first.substr(std::string("members/").size()), key_lasts);
}

void referee::after_event() {
    if (w_.proxy.changes == seen_changes_)
        return;
    seen_changes_ = w_.proxy.changes;
    const auto& slots = w_.proxy.now().slots;
    std::map<std::string, std::vector<const proxy_slot*>> ready;
    for (const proxy_slot& s : slots) {
        if (s.ready())
            ready[s.id.backend()].push_back(&s);
    }
    const bool excused = now() - by_hand_ < in_flight || now() - replaced_ < in_flight;
    const bool two = ready["primary"].size() > 1;
    if (two && !two_ready_.since && !excused)
        fail("never two ready slots in the primary pool",
             to_string(ready["primary"][0]->id) + " and " + to_string(ready["primary"][1]->id));
    two_ready_.is(two, now());

    bool same = false;
    for (const auto& [backend, in_service] : ready) {
        for (std::size_t i = 0; i != in_service.size(); ++i) {
            for (std::size_t j = i + 1; j != in_service.size(); ++j) {
                const address& where = in_service[i]->where;
                // Free slots that somebody gave have one address too; they are looked for as those of no member are.
                const bool members = std::ranges::any_of(address_of_, [&where](const auto& m) { //
                    return m.second == where.ip();
                });
                if (where != in_service[j]->where || !members)
                    continue;
                same = true;
                if (!same_address_.since && !excused)
                    fail("no two slots in service with one address", to_string(in_service[i]->id) + " and " +
                                                                         to_string(in_service[j]->id) + " have " +
                                                                         to_string(where));
            }
        }
    }
    same_address_.is(same, now());
}

// --- what may not last

bool referee::healthy() const {
    const node* leader = w_.leader();
    if (!leader || !leader->fit_primary() || !w_.store.available() || (asked_ && now() - *asked_ < request_lasts))
        return false;
    return std::ranges::all_of(w_.present(), [leader](const node* n) { return n == leader || n->fit_replica(*leader); });
}

std::string referee::unserved(bool leader_only) const {
    if (!w_.running)
        return "there is no agent";
    const node* leader = w_.leader();
    const bool enough_slots = w_.proxy.shape.slots >= w_.present().size();
    const bool falls_back = w_.settings.pools[1].fallback_primary && w_.present().size() == 1;
    std::map<std::pair<std::string, std::string>, const proxy_slot*> ready;
    for (const proxy_slot& s : w_.proxy.now().slots) {
        if (!s.ready())
            continue;
        ready[{s.id.backend(), s.where.ip()}] = &s;
        const bool is_leader = s.where.ip() == ip_told(*leader);
        const node* n = w_.cluster.at(w_.host_of(s.where.ip()));
        if (s.id.backend() == "primary" && !is_leader)
            return to_string(s.id) + " is ready and not the leader's";
        if (s.id.backend() == "primary" && !s.up)
            return to_string(s.id) + " is the leader's and down";
        if (!leader_only && s.id.backend() == "replicas" && (!n || (is_leader && !falls_back)))
            return to_string(s.id) + " is ready and no replica's";
        if (!leader_only && !s.checked)
            return to_string(s.id) + " is ready and HAProxy's check of it is suspended";
    }
    if (!ready.contains({"primary", ip_told(*leader)}))
        return "the leader " + leader->name + " has no ready slot";
    if (leader_only)
        return "";
    std::size_t replicas = 0;
    for (const node* n : w_.present()) {
        const bool wanted = n != leader || falls_back;
        const bool there = ready.contains({"replicas", ip_told(*n)});
        replicas += there ? 1 : 0;
        if (wanted && !there && enough_slots)
            return "the replica " + n->name + " has no ready slot";
    }
    if (!enough_slots && replicas + 1 < w_.proxy.shape.slots)
        return "replicas have no ready slot though there are slots";
    for (const auto& row : w_.running->passes().rows()) {
        if (!row.in_step.value_or(false))
            return row.backend + '/' + row.slot + " is not in step";
    }
    return "";
}

void referee::tick() {
    const auto since = sighted();
    const auto since_without_etcd = sighted(false);
    healthy_.is(healthy(), now());
    const node* leader = w_.leader();
    const auto key_since = leaders_.empty() ? now() : leaders_.back().first;

    // (4) liveness
    const bool cluster_is = healthy_.since.has_value() && w_.leader();
    const std::string why = cluster_is ? unserved(false) : "";
    whole_.is(cluster_is && since && now() > *since && why.empty(), now());
    unserved_.is(!why.empty(), now());
    if (since && healthy_.from(std::max({*since, by_hand_, settled_}), recovers + served, now()) &&
        unserved_.longer(repaired, now()))
        fail("what is healthy is served", why);
    const bool same_leader = taken_[static_cast<std::size_t>(part::etcd)] > 0 && cluster_is &&
                             key_since + served + recovers < etcd_taken_ && since_without_etcd &&
                             *since_without_etcd + served + recovers < etcd_taken_;
    const std::string lost = same_leader ? unserved(true) : "";
    lost_.is(!lost.empty(), now());
    if (same_leader && healthy_.from(std::max({etcd_taken_, by_hand_, settled_}), served, now()) &&
        lost_.longer(repaired, now()))
        fail("etcd away, nothing is lost", lost);

    // (1), (2) by hand, and repaired
    const bool acts = since_without_etcd && now() - *since_without_etcd > recovers;
    if (acts && (two_ready_.longer(repaired, now()) || same_address_.longer(repaired, now())))
        fail("what somebody changed is repaired", "two slots in service are still there");

    // (6) no new writer to a node that is not the leader's; (2) nobody to an address of no member's
    bool misrouted = false;
    bool foreign = false;
    for (const proxy_slot& s : w_.proxy.now().slots) {
        if (!s.ready())
            continue;
        misrouted = misrouted || (s.id.backend() == "primary" && leader && s.where.ip() != ip_told(*leader));
        // A member that is gone from etcd keeps its slot while its node answers (R5).
        const node* n = w_.cluster.at(w_.host_of(s.where.ip()));
        foreign = foreign || (!(n && n->alive()) && std::ranges::none_of(address_of_, [&s](const auto& m) {
                                  return m.second == s.where.ip();
                              }));
    }
    misrouted_.is(misrouted && leader, now());
    foreign_.is(foreign, now());
    const bool sees = since && now() - *since > recovers && now() - by_hand_ > repaired;
    if (sees && now() - key_since > told && misrouted_.longer(told, now()))
        fail("no new writer on a node that is not the leader", "a slot of another node is ready in the primary pool");
    if (sees && foreign_.from(*since, orphan_goes, now()))
        fail("no wrong address ready", "a slot in service has an address of no member");

    // (5) sessions on a demoted node, old workers too
    std::string left;
    const auto look = [&](const proxy_process& p, const char* where) {
        for (const proxy_session& s : p.sessions) {
            if (p.slots[s.slot].id.backend() == "primary" && leader && s.to.ip() != ip_told(*leader))
                left = "a session with " + to_string(s.to) + where;
        }
    };
    look(w_.proxy.now(), "");
    for (const proxy_process& p : w_.proxy.old())
        look(p, " in an old worker");
    left_.is(!left.empty() && leader && leader->fit_primary(), now());
    if (sees && now() - key_since > swept && left_.longer(swept, now()))
        fail("no session is left on a demoted node", left);

    // (7) the agent rests
    if (++ticks_ % 100 == 0) {
        const auto passes = w_.counts.passes - std::exchange(passes_before_, w_.counts.passes);
        const bool at_rest = whole_.longer(20s, now()) && now() - disturbed_ > 20s && now() - key_since > 20s &&
                             w_.running && now() - w_.running->state().leader_since > 20s;
        if (passes > (at_rest ? passes_at_rest : passes_at_most))
            fail("the agent rests", fmt::format("{} passes in 10 s", passes));
    }
}

bool referee::whole() const {
    return whole_.since.has_value();
}

} // namespace pointsman::sim
