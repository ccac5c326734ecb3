#include "referee.hpp"

#include "world.hpp"

#include <algorithm>
#include <set>

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
constexpr auto an_exchange = 30ms;
// A healthy cluster is served: a replica needs two yeses, and one that was on an older timeline is waited for 10 s; an
// orphan goes after 10 s; a member gone from etcd is forgotten after 10 s.
constexpr auto served = 20s;
// For how long what a node or etcd said may be the reason of a cut: until the agent's exchange with a slow node or a
// HAProxy that had hung is over.
constexpr auto reason_lasts = 6s;
constexpr auto key_lasts = 15s; // the leader key decides while it is readable
// A member that is gone from etcd and silent is forgotten after 10 s, and what was its slot drained after 10 s more.
constexpr auto orphan_goes = 25s;
// Before 10 s are over nothing happens to it.
constexpr auto orphan_stays = 9900ms;
// From the agent's first yes of this leader to its slot: a pass or two. The resync, a second apart, is too late for it.
constexpr auto leader_served = 200ms;
// A replica that says yes on an older timeline than the leader's is waited for.
constexpr auto rewound = 9900ms;
// Two noes of a running primary count when they are this far apart: where another one says yes, and where none does.
// Measured where the node answers, which is a little later than where it is asked.
constexpr auto second_no = 990ms;
constexpr auto lone_no = 4900ms;
// For so long an unknown answer keeps the leader's slot.
constexpr auto grace = 30s;
// After which etcd's word is too old to be the leader key's: two polls of 5 s and a read's deadline.
constexpr auto unreadable = 13s;
// A store that replaces another is followed after 30 s in which every endpoint was asked; a few hung ones make that
// longer.
constexpr auto longest_trial = 120s;
// A replica is probed once a second, and what is under way ends with its timeouts of a second each.
constexpr auto found_dead = 4s;
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

// From what the agent knew to what its command does.
duration referee::in_flight() const {
    const bool was_slow = now() - socket_slow_at_ < 5 * socket_was_;
    return an_exchange + 5 * std::max(w_.socket_delay, was_slow ? socket_was_ : duration::zero());
}

void referee::fail(std::string name, std::string what) {
    if (broken_)
        return;
    w_.tell("BROKEN", [&] { return name + ": " + what; });
    broken_ = broken_invariant{std::move(name), std::move(what), now()};
}

void referee::take(part p) {
    const auto i = static_cast<std::size_t>(p);
    if (taken_[i]++ == 0)
        taken_at_[i] = now();
}

void referee::give_back(part p) {
    const auto i = static_cast<std::size_t>(p);
    --taken_[i];
    back_[i] = now();
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
    if (!etcd_too)
        return since;
    // Another store of etcd's is followed after its trial.
    if (w_.running && now() - w_.store.replaced_at() < longest_trial && follows_old_store())
        return std::nullopt;
    // One that was started beside another etcd's endpoint may follow that etcd, until the other store's trial is over.
    if (w_.running && w_.store.misled(agent_since_, longest_trial))
        return std::nullopt;
    return w_.running ? std::max(since, w_.running->store_since()) : since;
}

// Since before the store was replaced, or since it was started and an endpoint that was behind answered first.
bool referee::follows_old_store() const {
    const auto& leader = w_.running->state().leader;
    const auto old = w_.store.behind_said(w_.cluster.key("leader"), longest_trial);
    return w_.running->store_since() < w_.store.replaced_at() || (old && leader && leader->name == *old);
}

void referee::key_changed(const std::string& key) {
    if (key == "leader") {
        leaders_.emplace_back(now(), w_.cluster.leader().value_or(""));
        return;
    }
    if (key == "failover") {
        const auto asked = w_.store.get(w_.cluster.key(key)).value_or("{}");
        asked_ = asked == "{}" ? std::nullopt : std::optional(now());
        last_asked_ = asked_.value_or(last_asked_);
    }
    if (!key.starts_with("members/"))
        return;
    const auto value = w_.store.get(w_.cluster.key(key)).value_or("");
    const auto begin = value.find("10.0.0.");
    const std::string ip = begin == value.npos ? "" : value.substr(begin, value.find(':', begin) - begin);
    std::string& known = address_of_[key];
    if (known == ip)
        return;
    known = ip;
    settled_ = now();
    if (ip.empty()) {
        gone_[last_told_[key]] = now();
        return;
    }
    std::string& told_before = last_told_[key];
    if (told_before != ip)
        moved_[told_before] = moved_[ip] = now();
    gone_.erase(ip);
    told_before = ip;
}

// The member that etcd has, or had last, at this address.
std::string referee::name_at(const std::string& ip) const {
    for (const auto* addresses : {&address_of_, &last_told_}) {
        for (const auto& [key, told] : *addresses) {
            if (told == ip)
                return key.substr(std::string("members/").size());
        }
    }
    return "";
}

// Whether the slot's address is, or was of late, not that of its member any more.
bool referee::moves(const proxy_slot& s) const {
    const auto it = moved_.find(s.where.ip());
    if (it != moved_.end() && now() - it->second < key_lasts)
        return true;
    // An endpoint that is behind has its member elsewhere still.
    const auto behind = w_.store.behind_said(w_.cluster.key("members/" + name_at(s.where.ip())), key_lasts);
    if (behind && behind->find("//" + s.where.ip() + ":") == behind->npos)
        return true;
    const auto name = w_.running ? member_of(s) : std::nullopt;
    if (!name)
        return false;
    const auto& members = w_.running->state().members;
    const auto m = members.find(*name);
    return m != members.end() && m->second.connect != s.where;
}

void referee::agent_started() {
    agent_since_ = now();
    said_.clear();
}

void referee::new_process() {
    replaced();
    process_since_ = now();
    whole_before_process_ = whole_.longer(1s, now());
}

void referee::node_said(int host, const std::string& path, const agent::outcome& heard) {
    words& said = said_[host];
    const bool silent = !agent::is_answer(heard);
    if (path == "/replica") {
        const bool yes = !silent && heard.status == 200U;
        if (!yes && said.replica_yeses > 0)
            said.yeses_before = said.replica_yeses;
        if (!yes)
            said.replica_no = now();
        said.replica_yeses = yes ? said.replica_yeses + 1 : 0;
        if (said.replica_yeses == 1)
            said.replica_since = now();
    }
    if (silent)
        said.last_silent = now();
    if (silent && heard.postgres_open == false)
        said.dead = now();
    if (silent && !heard.postgres_open)
        said.no_port = now();
    if (path == "/replica")
        return;
    const bool runs = heard.body && heard.body->state == "running" && heard.body->role == "master";
    const bool yes = !silent && runs && heard.status == 200U;
    const bool soft_no = !silent && !yes && (runs || !heard.body);
    if (said.yes && !yes)
        said.yes_ended = now();
    said.yes = yes ? std::optional(heard.sent) : std::nullopt;
    const time_point term = leaders_.empty() ? now() : leaders_.back().first;
    if (yes && heard.sent > term && said.yes_of_term < term)
        said.yes_of_term = now();
    if (!silent && !yes && !soft_no)
        said.otherwise = now();
    if (!silent)
        said.silent.reset();
    else if (!said.silent)
        said.silent = now();
    said.noes = soft_no ? said.noes + 1 : 0;
    if (said.noes == 1)
        said.first_no = now();
    if (says_no_twice(host))
        said.second_no = now();
}

bool referee::says_no_twice(int host) const {
    const words& said = said_.at(host);
    return said.noes >= 2 && now() - said.first_no >= (another_says_yes(host) ? second_no : lone_no);
}

bool referee::another_says_yes(int host) const {
    return std::ranges::any_of(said_, [host](const auto& entry) { return entry.first != host && entry.second.yes; });
}

// Where etcd says that it is.
std::string referee::ip_told(const node& n) const {
    const auto it = last_told_.find("members/" + n.name);
    return it == last_told_.end() ? w_.ip_of(n) : it->second;
}

// Whether the leader key named another member at some time of late, or in what an endpoint that is behind answers.
bool referee::named_another(const std::string& name, duration within) const {
    if (const auto behind = w_.store.behind_said(w_.cluster.key("leader"), within); behind && *behind != name)
        return true;
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
    if (const auto name = member_of(s)) {
        const auto m = w_.running->state().members.find(*name);
        const bool right = m != w_.running->state().members.end() && m->second.connect == s.where;
        if (!right && !excused(s))
            fail("no wrong address ready", to_string(s.id) + " is given to " + *name + " with " + to_string(s.where));
    }
    if (!s.maint || excused(s))
        return;
    const words& said = said_[w_.host_of(s.where.ip())];
    const bool primary = s.id.backend() == "primary";
    if (primary && !said.yes && now() - said.yes_ended > in_flight())
        return fail("only a fresh yes makes a writer", to_string(s.id) + " is given, and its node does not say yes");
    const auto since = sighted();
    // A key that has just changed is on its way still.
    const auto known = w_.running ? w_.running->state().leader : std::nullopt;
    const bool key_told = !leaders_.empty() && (now() - leaders_.back().first > in_flight() ||
                                                (known ? known->name : "") == leaders_.back().second);
    if (primary && since && now() - *since > recovers && key_told && said.yes && *said.yes < leaders_.back().first)
        return fail("only a fresh yes makes a writer", to_string(s.id) + " is given on a yes of before the leader key");
    const bool falls_back =
        w_.settings.pools[1].fallback_primary && (said.yes || now() - said.yes_ended < reason_lasts);
    const int yeses =
        now() - said.replica_no < in_flight() ? std::max(said.yeses_before, said.replica_yeses) : said.replica_yeses;
    if (!primary && yeses < 2 && !falls_back)
        fail("a replica comes in with its second yes", fmt::format("{} is given after {}", to_string(s.id), yeses));
    const node* n = w_.cluster.at(w_.host_of(s.where.ip()));
    const node* leader = w_.leader();
    // The agent knows the leader's timeline from the leader alone, and where that is from etcd.
    const bool heard = leader && ip_told(*leader) == w_.ip_of(*leader) && said_[leader->host].yes &&
                       *said_[leader->host].yes > leaders_.back().first;
    const bool old = n && heard && !n->primary && n->timeline < leader->timeline && writable_.longer(recovers, now());
    if (!primary && since && now() - *since > recovers && old && now() - said.replica_since < rewound)
        fail("a replica comes in on the leader's timeline", to_string(s.id) + " is given to " + n->name);
}

void referee::readdressed(const proxy_slot& s) {
    if (!s.maint && !excused(s))
        fail("addresses change only in maint", to_string(s.id) + " with " + to_string(s.where));
}

// Whether what the agent does to a slot may come of something that it could not know yet.
bool referee::excused(const proxy_slot& s) const {
    const auto moved = moved_.find(s.where.ip());
    return now() - by_hand_ < repaired || now() - s.touched < repaired || now() - replaced_ < in_flight() ||
           (moved != moved_.end() && now() - moved->second < in_flight());
}

// Whether what was said then may still be the reason of what is done now; an agent that was frozen knows nothing newer.
bool referee::of_late(time_point said) const {
    const auto agent = static_cast<std::size_t>(part::agent);
    const bool thawed = taken_[agent] > 0 || now() - back_[agent] < recovers;
    return (thawed ? taken_at_[agent] : now()) - said < reason_lasts;
}

// What the agent has of the slot.
std::optional<agent::slot_row> referee::row_of(const proxy_slot& s) const {
    for (auto& row : w_.running->passes().rows()) {
        if (row.backend == s.id.backend() && row.slot == s.id.server())
            return std::move(row);
    }
    return std::nullopt;
}

std::optional<std::string> referee::member_of(const proxy_slot& s) const {
    const auto row = row_of(s);
    return row ? row->member : std::nullopt;
}

// The rule that decided, in its words.
std::string referee::reason_of(const proxy_slot& s) const {
    const auto row = row_of(s);
    return row ? row->why.value_or("-") : "-";
}

// Of a slot whose member the agent has never heard of, and of another one that says yes, the latter is the writer where
// etcd cannot be read (R4); that it lies, nobody can tell.
bool referee::gives_way(const proxy_slot& s) const {
    const auto since = sighted();
    const bool blind = !since || now() - *since < recovers;
    return blind && w_.running && !member_of(s) && another_says_yes(w_.host_of(s.where.ip()));
}

void referee::taken(const proxy_slot& s) {
    const std::string& ip = s.where.ip();
    const std::string name = name_at(ip);
    if (excused(s) || moves(s) || name.empty() || two_ready_.since)
        return;
    const int host = w_.host_of(ip);
    const words& said = said_[host];
    const bool leads = w_.cluster.leader() == name;
    bool reason = of_late(said.dead) || of_late(said.no_port);
    const auto since = sighted();
    const bool blind = !since || now() - *since < recovers;
    if (s.id.backend() == "primary") {
        reason = reason || of_late(said.otherwise) || of_late(said.second_no) || says_no_twice(host) ||
                 named_another(name, key_lasts) ||
                 (asked_ && (blind || now() - std::max({*asked_, *since, agent_since_}) < request_lasts + recovers)) ||
                 (blind && now() - last_asked_ < request_lasts + recovers) || // gone meanwhile, with its store
                 (said.silent && (now() - *said.silent > grace || !leads || blind)) || gives_way(s);
    } else {
        const auto gone = gone_.find(ip);
        reason = reason || of_late(said.replica_no) || leads ||
                 (gone != gone_.end() && now() - gone->second > orphan_stays) || (blind && !member_of(s));
    }
    if (!reason)
        fail("no slot is taken without a reason", to_string(s.id) + " with " + ip + " is taken: " + reason_of(s));
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
                       leader->is_writable() && !leaders_.empty() && now() - leaders_.back().first > 1s;
    if (whom == by::check && s.id.backend() == "primary" && agent_sees && leads)
        fail("HAProxy's check judges only when the agent does not",
             "it has cut a session with the leader, which takes writes");
}

bool referee::justified(const proxy_slot& s, const proxy_session& session) const {
    const std::string& ip = session.to.ip();
    const std::string name = name_at(ip);
    // One that has outlived a change of its slot's address goes with the slot's.
    if (excused(s) || moves(s) || name.empty() || session.to != s.where)
        return true;
    const auto said = said_.find(w_.host_of(ip));
    const bool dead = said != said_.end() && of_late(said->second.dead);
    if (s.id.backend() != "primary" || dead)
        return dead;
    const bool no = said != said_.end() &&
                    (of_late(said->second.otherwise) || of_late(said->second.second_no) || says_no_twice(said->first));
    return no || named_another(name, key_lasts) || gives_way(s);
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
    const bool excused = now() - by_hand_ < in_flight() || now() - replaced_ < in_flight();
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
    return std::ranges::all_of(w_.present(),
                               [leader](const node* n) { return n == leader || n->fit_replica(*leader); });
}

// Slots of the replica pool that nobody can have yet: another one has their address, and they are drained, which lasts
// as long as their sessions do (R10).
std::size_t referee::doubled() const {
    const proxy_process& p = w_.proxy.now();
    std::vector<address> drained;
    std::set<address> others;
    for (std::size_t i = 0; i != p.slots.size(); ++i) {
        const proxy_slot& s = p.slots[i];
        if (s.id.backend() != "replicas")
            continue;
        if (s.drain && !s.maint && std::ranges::count(p.sessions, i, &proxy_session::slot) > 0)
            drained.push_back(s.where);
        else
            others.insert(s.where);
    }
    return static_cast<std::size_t>(
        std::ranges::count_if(drained, [&others](const address& where) { return !others.insert(where).second; }));
}

std::string referee::unserved(bool leader_only) const {
    if (!w_.running)
        return "there is no agent";
    const node* leader = w_.leader();
    const std::size_t slots = w_.proxy.shape.slots - doubled();
    const bool enough_slots = slots >= w_.present().size();
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
    if (!ready.contains({"primary", ip_told(*leader)})) {
        std::string why = "the leader " + leader->name + " has no ready slot";
        for (const proxy_slot& s : w_.proxy.now().slots) {
            if (s.id.backend() == "primary" && s.where.ip() == ip_told(*leader))
                why += ", " + to_string(s.id) + ": " + reason_of(s);
        }
        return why;
    }
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
    if (!enough_slots && replicas + 1 < slots)
        return "replicas have no ready slot though there are slots";
    for (const auto& row : w_.running->passes().rows()) {
        if (!row.in_step.value_or(false))
            return row.backend + '/' + row.slot + " is not in step";
    }
    return "";
}

void referee::tick() {
    if (w_.socket_delay > duration::zero()) {
        socket_was_ = w_.socket_delay;
        socket_slow_at_ = now();
    }
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
    // Roles are followed by probes alone, also to another leader.
    const time_point etcd_taken = taken_at_[static_cast<std::size_t>(part::etcd)];
    const bool knew =
        taken_[static_cast<std::size_t>(part::etcd)] > 0 && cluster_is && since_without_etcd &&
        std::max({*since_without_etcd, agent_since_, settled_, process_since_}) + served + recovers < etcd_taken &&
        w_.proxy.shape.slots >= w_.present().size(); // else the new leader may have none, and only etcd tells who it is
    // Not while one answers as of before: the agent cannot tell.
    const bool away = knew && !w_.store.behind_said(w_.cluster.key("leader"), key_lasts);
    const std::string lost = away ? unserved(true) : "";
    lost_.is(!lost.empty(), now());
    if (away && healthy_.from(std::max({etcd_taken, by_hand_, settled_}), unreadable + served, now()) &&
        lost_.longer(repaired, now()))
        fail("etcd away, nothing is lost", lost);

    // R3: a leader whose REST API is silent keeps its slot for the grace, where the leader key that the agent knows
    // names it.
    if (whole())
        last_whole_ = now();
    writable_.is(leader && leader->is_writable() && leader->patroni_up, now());
    const bool named = w_.running && leader && w_.running->state().last_leader == leader->name;
    const bool grace_holds = named && writable_.since && *writable_.since < last_whole_ &&
                             now() - last_whole_ < grace - 2s && key_since < last_whole_ && leader->is_silent() &&
                             by_hand_ < last_whole_ && settled_ < last_whole_ && process_since_ < last_whole_ &&
                             !asked_ && last_asked_ < last_whole_ && w_.cut_off.empty() && since_without_etcd &&
                             *since_without_etcd + recovers < last_whole_;
    const std::string out = grace_holds ? unserved(true) : "";
    graceless_.is(!out.empty(), now());
    if (graceless_.longer(repaired, now()))
        fail("an unknown answer is no no", out);

    // R8: another process has its slots at once, where nothing else has happened.
    if (whole_before_process_ && now() - process_since_ > told) {
        whole_before_process_ = false;
        const bool alone = cluster_is && since && *since <= process_since_ && key_since + recovers < process_since_ &&
                           settled_ + recovers < process_since_ && by_hand_ + recovers < process_since_ &&
                           replaced_ == process_since_ && unserved_.since;
        if (alone && healthy_.since && *healthy_.since + recovers < process_since_)
            fail("a new HAProxy has its slots at once", why);
    }

    // (1), (2) by hand, and repaired
    const auto agent = static_cast<std::size_t>(part::agent);
    const auto proxy = static_cast<std::size_t>(part::haproxy);
    const bool acts =
        taken_[agent] == 0 && taken_[proxy] == 0 && now() - back_[agent] > recovers && now() - back_[proxy] > recovers;
    // Who knows none of the members whose slots these are leaves them as they were found (R5, R15).
    const auto knows = [this] {
        return w_.running && std::ranges::any_of(w_.running->passes().rows(), [](const auto& row) {
                   return row.backend == "primary" && row.state == "ready" && row.member;
               });
    };
    // Who was started with etcd away knows nothing until it is read.
    const auto etcd = static_cast<std::size_t>(part::etcd);
    const bool told_of_all =
        agent_since_ + recovers < etcd_taken || (taken_[etcd] == 0 && now() - back_[etcd] > recovers);
    if (acts && told_of_all && (two_ready_.longer(repaired, now()) || same_address_.longer(repaired, now())) && knows())
        fail("what somebody changed is repaired", "two slots in service are still there");

    // (6) no new writer to a node that is not the leader's; (2) nobody to an address of no member's
    bool misrouted = false;
    std::string foreign;
    for (const proxy_slot& s : w_.proxy.now().slots) {
        if (!s.ready())
            continue;
        misrouted = misrouted || (s.id.backend() == "primary" && leader && s.where.ip() != ip_told(*leader));
        // A member that is gone from etcd keeps its slot while its node answers (R5).
        const node* n = w_.cluster.at(w_.host_of(s.where.ip()));
        const bool known = std::ranges::any_of(address_of_, [&s](const auto& m) { return m.second == s.where.ip(); });
        if (!known && !(n && n->alive()) && !(leader && ip_told(*leader) == s.where.ip()))
            foreign = to_string(s.id) + " with " + to_string(s.where) + ": " + (w_.running ? reason_of(s) : "-");
    }
    misrouted_.is(misrouted && leader, now());
    foreign_.is(!foreign.empty() && leader, now()); // until there is one, the cluster is not whole (R5)
    const bool sees = since && now() - *since > recovers && now() - by_hand_ > repaired;
    if (sees && now() - key_since > told && misrouted_.longer(told, now()))
        fail("no new writer on a node that is not the leader", "a slot of another node is ready in the primary pool");
    if (sees && foreign_.from(*since, orphan_goes, now()))
        fail("no wrong address ready", foreign);

    // R2: the leader is served as soon as the agent has its yes.
    const words* told_by = leader && ip_told(*leader) == w_.ip_of(*leader) ? &said_[leader->host] : nullptr;
    const bool waits = sees && told_by && told_by->yes && told_by->yes_of_term > key_since &&
                       now() - told_by->yes_of_term > leader_served && !asked_ &&
                       std::max({agent_since_, settled_, process_since_, by_hand_, replaced_}) + recovers < now() &&
                       w_.proxy.shape.slots >= w_.present().size();
    const std::string missing = waits ? unserved(true) : "";
    late_.is(!missing.empty(), now());
    if (waits && late_.longer(100ms, now()))
        fail("the leader is served at once", missing);

    // R3: a node whose REST API and port both refuse is dead.
    const bool dead = std::ranges::any_of(w_.proxy.now().slots, [this](const proxy_slot& s) {
        const node* n = w_.cluster.at(w_.host_of(s.where.ip()));
        return s.ready() && n && !n->patroni_up && n->port_open() == false &&
               address_of_["members/" + n->name] == s.where.ip();
    });
    dead_.is(dead, now());
    if (sees && dead_.longer(found_dead, now()))
        fail("the dead are not served", "a slot of a node that refuses everything is ready");

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
        if (whole_.longer(served, now()) && now() - disturbed_ > served)
            look_at_state_file();
    }
}

// R8: a HAProxy that starts from it comes back as this one is.
void referee::look_at_state_file() {
    const auto ready = [](const std::vector<proxy_slot>& slots) {
        std::string text;
        for (const proxy_slot& s : slots) {
            if (s.ready())
                text += to_string(s.id) + " " + to_string(s.where) + " ";
        }
        return text;
    };
    const std::string would = ready(w_.proxy.restored());
    const std::string is = ready(w_.proxy.now().slots);
    if (!w_.proxy.shape.literal && would != is)
        fail("the state file is current", "it would restore " + would + "instead of " + is);
}

} // namespace pointsman::sim
