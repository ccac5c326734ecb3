#include "haproxy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <utility>

namespace pointsman::sim {

using namespace std::chrono_literals;
using namespace runtime_api;

namespace {

constexpr auto header =
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port\n";

std::string text_of(const process_info& p) {
    return fmt::format("Name: HAProxy\nVersion: {}\nPid: {}\nUptime_sec: 1\nStopping: {}\nStart_time_sec: {}\n\n",
                       p.version, p.pid, p.stopping ? 1 : 0, p.start_time);
}

} // namespace

haproxy::haproxy(scheduler& clock, random& chance, proxy_shape what)
    : shape(std::move(what)), clock_(clock), chance_(chance) {
    start();
}

// --- the stats socket

process_info haproxy::identify(bool of_old) const {
    const proxy_process& p = of_old ? old_.back() : process_;
    const bool later = shape.async_address;
    return {later ? "3.0.0" : "2.6.12", later ? 3U : 2U, later ? 0U : 6U, p.pid, p.started, of_old};
}

std::string haproxy::info(bool of_old) const {
    return text_of(identify(of_old));
}

std::string haproxy::observe(bool of_old) const {
    return info(of_old) + dump(of_old ? old_.back() : process_);
}

std::string haproxy::dump(const proxy_process& p) const {
    std::string text = header;
    int number = 0;
    for (const proxy_slot& s : p.slots) {
        const unsigned admin = 4U + (s.maint ? 1U : 0U) + (s.drain ? 8U : 0U);
        const unsigned check = 2U + (s.checked ? 4U : 0U) + (s.maint ? 8U : 0U);
        fmt::format_to(std::back_inserter(text),
                       "3 {} {} {} {} {} {} {} 1 7 15 3 {} {} 0 0 0 {} {} - 0 8008 - - 8008\n", s.id.backend(),
                       ++number, s.id.server(), s.where.ip(), s.up ? 2 : 0, admin, s.weight, s.up ? 4 : 0, check,
                       shape.literal ? "-" : "slot.invalid", s.where.port());
    }
    return text + '\n';
}

std::string haproxy::statistics() {
    std::vector<unsigned> counts(process_.slots.size());
    for (const proxy_session& s : process_.sessions)
        ++counts[s.slot];
    std::string text = "# pxname,svname,scur,status,type,\n";
    for (std::size_t i = 0; i != counts.size(); ++i)
        text +=
            fmt::format("{},{},{},UP,2,\n", process_.slots[i].id.backend(), process_.slots[i].id.server(), counts[i]);
    return text + '\n';
}

bool haproxy::next_is_old() {
    if (old_answers_ == 0 || old_.empty())
        return false;
    --old_answers_;
    return true;
}

std::string haproxy::carry_out(std::span<const command> batch, by whom, std::optional<std::size_t> fails_at) {
    std::string reply;
    for (std::size_t i = 0; i != batch.size(); ++i) {
        if (fails_at == i)
            return reply + "No such server.\n\n";
        reply += reply_to(batch[i]);
        apply(batch[i], whom);
        ++commands;
    }
    return reply;
}

std::string haproxy::reply_to(const command& c) const {
    const auto* change = std::get_if<runtime_api::set_address>(&c);
    if (!change)
        return "\n";
    const auto s = std::ranges::find(process_.slots, change->slot, &proxy_slot::id);
    const bool ip = s->where.ip() != change->where.ip();
    const bool port = s->where.port() != change->where.port();
    std::string text;
    if (ip)
        text += fmt::format("IP changed from '{}' to '{}'", s->where.ip(), change->where.ip());
    else if (!shape.async_address)
        text += "no need to change the addr";
    if (port)
        text += fmt::format("{}port changed from '{}' to '{}'", text.empty() ? "" : ", ", s->where.port(),
                            change->where.port());
    else if (!shape.async_address)
        text += ", no need to change the port";
    if (text.empty())
        return "nothing changed\n\n";
    return text + " by 'stats socket command'\n\n";
}

proxy_slot& haproxy::find(const slot_id& id) {
    return *std::ranges::find(process_.slots, id, &proxy_slot::id);
}

void haproxy::apply(const command& c, by whom) {
    proxy_slot& s = find(slot_of(c));
    ++changes;
    if (whom == by::somebody)
        s.touched = clock_.now();
    if (const auto* state = std::get_if<set_state>(&c)) {
        if (state->state == admin_state::ready && !s.ready() && whom == by::agent && on_ready)
            on_ready(s);
        if (state->state != admin_state::ready && s.ready() && whom == by::agent && on_taken)
            on_taken(s);
        const bool was_maint = s.maint;
        s.maint = state->state == admin_state::maint;
        s.drain = state->state == admin_state::drain;
        if (s.maint) {
            s.up = false;
            if (!was_maint && shape.cuts_on_maint)
                cut_slot(s, whom);
        } else if (was_maint) { // UP before its first check, with one failure to go
            s.up = true;
            s.failures = 0;
            s.fall = 1;
        }
    } else if (const auto* move = std::get_if<runtime_api::set_address>(&c)) {
        if (whom == by::agent && on_address)
            on_address(s);
        if (ignores_addresses)
            return;
        if (!shape.async_address) {
            s.where = move->where;
            return;
        }
        if (s.where == move->where) // replies and changes are against what is applied: A to B to A ends at B
            return;
        s.pending = move->where;
        const auto pid = process_.pid;
        clock_.in(chance_.between(50us, 900us), [this, id = s.id, where = move->where, pid] {
            if (pid == process_.pid)
                set_address(id, where);
        });
    } else if (const auto* weight = std::get_if<set_weight>(&c)) {
        s.weight = weight->weight;
    } else if (const auto* check = std::get_if<set_check>(&c)) {
        s.checked = check->enabled;
        s.failures = 0;
    } else if (std::holds_alternative<restore_health>(c)) {
        s.up = !s.maint;
        s.failures = 0;
        s.fall = 3;
    } else {
        cut_slot(s, whom);
    }
}

void haproxy::set_address(const slot_id& id, const address& where) {
    proxy_slot& s = find(id);
    s.where = where;
    s.pending.reset();
    ++changes;
}

void haproxy::cut_slot(const proxy_slot& s, by whom) {
    std::erase_if(process_.sessions, [this, &s, whom](const proxy_session& session) {
        if (&process_.slots[session.slot] != &s)
            return false;
        if (on_cut)
            on_cut(s, session, whom, false);
        return true;
    });
}

// --- old workers

std::vector<old_worker> haproxy::old_workers() const {
    std::vector<old_worker> result;
    for (const proxy_process& p : old_) {
        old_worker w{p.pid, *parse_servers_state(dump(p)), {}};
        for (const proxy_session& s : p.sessions)
            w.sessions.push_back({fmt::format("0x{:x}", s.key), p.slots[s.slot].id});
        result.push_back(std::move(w));
    }
    return result;
}

void haproxy::cut(std::int64_t pid, std::span<const open_session> sessions) {
    const auto p = std::ranges::find(old_, pid, &proxy_process::pid);
    if (p == old_.end())
        return;
    for (const open_session& wanted : sessions) {
        std::erase_if(p->sessions, [this, &p, &wanted](const proxy_session& s) {
            if (fmt::format("0x{:x}", s.key) != wanted.key)
                return false;
            on_cut(p->slots[s.slot], s, by::agent, true);
            return true;
        });
    }
}

// --- clients

std::vector<std::size_t> haproxy::usable(const std::string& backend) const {
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i != process_.slots.size(); ++i) {
        const proxy_slot& s = process_.slots[i];
        if (s.id.backend() == backend && s.ready() && s.up)
            found.push_back(i);
    }
    return found;
}

void haproxy::open(std::size_t slot, duration lives) {
    process_.sessions.push_back(
        {++last_session_, slot, process_.slots[slot].where, clock_.now(), clock_.now() + lives});
}

void haproxy::end_sessions_at(const std::string& ip) {
    const auto there = [&ip](const proxy_session& s) { return s.to.ip() == ip; };
    std::erase_if(process_.sessions, there);
    for (proxy_process& p : old_)
        std::erase_if(p.sessions, there);
}

void haproxy::end_finished() {
    const auto over = [now = clock_.now()](const proxy_session& s) { return s.ends <= now; };
    std::erase_if(process_.sessions, over);
    for (proxy_process& p : old_)
        std::erase_if(p.sessions, over);
    std::erase_if(old_, [](const proxy_process& p) { return p.sessions.empty(); });
}

// --- other processes

std::vector<proxy_slot> haproxy::initial() const {
    std::vector<proxy_slot> slots;
    for (const std::string& backend : shape.backends) {
        for (std::size_t i = 1; i <= shape.slots; ++i)
            slots.push_back(
                {.id = *slot_id::parse(backend, fmt::format("pg{}", i)), .where = *address::parse("127.0.0.1", 1)});
    }
    return slots;
}

// By name; an address only where the slot is declared with a host name; one that was enabled comes back UP.
std::vector<proxy_slot> haproxy::restored() const {
    std::vector<proxy_slot> slots = initial();
    std::istringstream lines(state_file);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream fields(line);
        std::vector<std::string> row;
        for (std::string word; fields >> word;)
            row.push_back(word);
        if (row.size() != 25 || row[0] == "#")
            continue;
        const auto s = std::ranges::find(slots, slot_id::parse(row[1], row[3]), [](const proxy_slot& p) { //
            return std::optional(p.id);
        });
        if (s == slots.end())
            continue;
        const auto port = static_cast<std::uint32_t>(std::stoul(row[18]));
        s->where = *address::parse(shape.literal ? s->where.ip() : row[4], port);
        const auto admin = std::stoul(row[6]);
        s->maint = admin & 1U;
        s->drain = admin & 8U;
        s->up = !s->maint;
        s->weight = static_cast<unsigned>(std::stoul(row[7]));
        s->checked = std::stoul(row[13]) & 4U;
        s->fall = 1;
    }
    return slots;
}

void haproxy::start() {
    process_ = {++last_pid_, clock_.now().time_since_epoch() / 1s, restored(), {}};
    down = false;
    ++changes;
}

void haproxy::stop() {
    down = true;
    process_.sessions.clear();
    old_.clear();
    old_answers_ = 0;
}

void haproxy::reload() {
    old_.push_back(std::exchange(process_, {}));
    old_answers_ = chance_.percent(50) ? static_cast<int>(chance_.below(7)) : 0;
    start();
}

void haproxy::checked(std::size_t slot, std::int64_t pid, bool passes) {
    if (pid != process_.pid || process_.slots[slot].maint)
        return;
    proxy_slot& s = process_.slots[slot];
    const bool was_up = s.up;
    if (passes) {
        s.failures = 0;
        s.fall = 3;
        s.up = true;
    } else if (++s.failures >= s.fall && s.up) {
        s.up = false;
        cut_slot(s, by::check);
    }
    changes += was_up != s.up ? 1 : 0;
}

} // namespace pointsman::sim
