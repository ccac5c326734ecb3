-- The hold (R11): while a pool has no usable slot, its new connections wait here instead of failing.
--
--     lua-load /etc/pointsman/hold.lua
--     tcp-request inspect-delay 40s
--     tcp-request content lua.hold primary if { nbsrv(primary) lt 1 }
--
-- HAProxy calls this once for each step. A connection goes on when the pool has a usable slot, and also when the time
-- is up or its client has gone: then it fails as it would have without the hold. No tune.lua setting is needed.

-- Seconds; less than `inspect-delay`, for where that ends a hold, HAProxy logs an alert for every connection.
local bound = 39

-- Milliseconds until the next look. A switchover is over within seconds, and what waits for it should lose little time;
-- what waits longer waits for an election after a crash, perhaps in thousands, and should cost little.
local function step(waited)
    return waited < 3 and 10 or 50
end

local function hold(txn, pool)
    local date = core.now()
    local now = date.sec + date.usec / 1000000
    local start = txn:get_priv() or now
    local waited = now - start
    if waited >= bound or txn.f:nbsrv(pool) > 0 or not txn.req:may_recv() then
        return act.CONTINUE
    end
    -- Not core.msleep(): HAProxy 2.6.12 drops a wake-up that is due before it has been queued, as happens to short
    -- sleeps on a busy host, and the connection stays where it is until `inspect-delay`.
    txn:set_priv(start)
    act.wake_time(step(waited))
    return act.YIELD
end

core.register_action("hold", { "tcp-req" }, hold, 1)
