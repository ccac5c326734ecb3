-- The hold (R11): while a pool has no usable slot, its new connections wait here instead of failing.
--
--     lua-load /etc/pointsman/hold.lua
--     tcp-request inspect-delay 40s
--     tcp-request content lua.hold primary if { be_conn_free(primary) ge 1000000 }
--     use_backend primary_anew if { stopping } { be_conn_free(primary) ge 1000000 }
--     server hold 127.0.0.1:1 backup maxconn 2000000
--
-- The server `hold` is on a closed port. It is used only while no slot is, and then it alone has a million connections
-- free: that is how the condition tells. It is also the hold of last resort, in steps of a second (`retries`): of what a
-- dying slot refused before anybody knew, and of everything where HAProxy has no Lua.
--
-- A reload leaves those that wait in the old process, whose slots never change again: they go on to the new process, by its
-- own port (the backend `..._anew`), and wait there.
--
-- HAProxy calls this once for each step. A connection goes on as soon as the pool has a usable slot. When the time is
-- up, the client is told so in PostgreSQL's own words. No tune.lua setting is needed.

-- Seconds; less than `inspect-delay`, for where that ends a hold, HAProxy logs an alert for every connection.
local bound = 39

-- A step costs some 8 microseconds: 20,000 of them in a second are a sixth of a core, however many connections wait.
-- 200 look every 10 ms, 2,000 every 100 ms, all of them at another moment: one of them sees a slot within microseconds.
local shortest, longest, steps_per_ms = 10, 250, 20

-- How many wait in a pool: each counts itself once in every period, so that one whose connection was ended from outside
-- is forgotten by itself.
local period = 0.5
local pools = {}

local function count(pool, mine, now)
    local here = pools[pool]
    if not here or now - here.since >= period then
        local last = here and now - here.since < 2 * period and here.held or 0
        here = {since = now, held = 0, last = last, number = here and here.number + 1 or 1}
        pools[pool] = here
    end
    if mine.counted ~= here.number then
        mine.counted = here.number
        here.held = here.held + 1
    end
    return math.max(here.held, here.last)
end

-- An ErrorResponse of PostgreSQL's protocol; 57P03 is cannot_connect_now, which drivers know as worth another try.
local function refusal(pool)
    local text = "no usable server in pool " .. pool .. " within " .. bound .. " s"
    local fields = "SFATAL\0VFATAL\0C57P03\0M" .. text .. "\0\0"
    return "E" .. string.pack(">I4", #fields + 4) .. fields
end

local function hold(txn, pool)
    local stopping = txn.f:stopping() -- 0 or 1, in some versions a boolean
    if txn.f:be_conn_free(pool) < 1000000 or stopping == 1 or stopping == true then
        return act.CONTINUE
    end
    if not txn.req:may_recv() then -- the client has gone
        return act.DENY
    end
    local date = core.now()
    local now = date.sec + date.usec / 1000000
    local mine = txn:get_priv() or {start = now}
    if now - mine.start >= bound then
        txn.res:send(refusal(pool))
        return act.DENY
    end
    -- Not core.msleep(): HAProxy 2.6.12 drops a wake-up that is due before it has been queued, as happens to short
    -- sleeps on a busy host, and the connection stays where it is until `inspect-delay`.
    act.wake_time(math.min(math.max(shortest, count(pool, mine, now) // steps_per_ms), longest))
    txn:set_priv(mine)
    return act.YIELD
end

core.register_action("hold", { "tcp-req" }, hold, 1)
