// Coroutines in simulated time: whoever has a life of its own (the agent's loops, Patroni, a client, a fault) is a
// routine, as the agent's loops are coroutines in Asio. One that is destroyed stops where it is, with all that it
// awaits: that is how a process is killed between any two of its steps.
#pragma once

#include "scheduler.hpp"

#include <coroutine>
#include <list>
#include <optional>
#include <type_traits>
#include <utility>

namespace pointsman::sim {

namespace detail {

struct promise_base {
    struct finished {
        bool await_ready() noexcept { return false; }
        template<class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) noexcept {
            return self.promise().caller ? self.promise().caller : std::noop_coroutine();
        }
        void await_resume() noexcept {}
    };

    std::suspend_always initial_suspend() noexcept { return {}; }
    finished final_suspend() noexcept { return {}; }
    void unhandled_exception() { throw; }

    std::coroutine_handle<> caller;
};

template<class T>
struct promise_of : promise_base {
    void return_value(T value) { result.emplace(std::move(value)); }
    std::optional<T> result;
};

template<>
struct promise_of<void> : promise_base {
    void return_void() {}
};

} // namespace detail

template<class T = void>
class [[nodiscard]] routine {
public:
    struct promise_type : detail::promise_of<T> {
        routine get_return_object() { return routine(std::coroutine_handle<promise_type>::from_promise(*this)); }
    };

    routine(routine&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    routine& operator=(routine&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~routine() {
        if (handle_)
            handle_.destroy();
    }

    bool await_ready() const { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) {
        handle_.promise().caller = caller;
        return handle_;
    }
    T await_resume() {
        if constexpr (!std::is_void_v<T>)
            return std::move(*handle_.promise().result);
    }

    void start() { handle_.resume(); }
    bool done() const { return handle_.done(); }

private:
    explicit routine(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
    std::coroutine_handle<promise_type> handle_;
};

// The awaiter of one event. While its owner is frozen (`until` lies ahead) nothing of it goes on.
class pause {
public:
    pause(scheduler& clock, duration time, const time_point* frozen_until = nullptr)
        : clock_(clock), when_(clock.now() + time), frozen_until_(frozen_until) {}
    pause(const pause&) = delete;
    pause& operator=(const pause&) = delete;
    ~pause() {
        if (ticket_)
            clock_.cancel(*ticket_);
    }

    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> self) {
        self_ = self;
        ticket_ = clock_.at(when_, [this] { fire(); });
    }
    void await_resume() {}

private:
    void fire() {
        if (frozen_until_ && *frozen_until_ > clock_.now()) {
            ticket_ = clock_.at(*frozen_until_, [this] { fire(); });
            return;
        }
        ticket_.reset();
        self_.resume();
    }

    scheduler& clock_;
    time_point when_;
    const time_point* frozen_until_;
    std::coroutine_handle<> self_;
    std::optional<scheduler::ticket> ticket_;
};

// What a loop sleeps on until it is rung or its time is up; a ring while nobody sleeps is kept.
class alarm {
public:
    explicit alarm(scheduler& clock, const time_point* frozen_until = nullptr)
        : clock_(clock), frozen_until_(frozen_until) {}
    alarm(const alarm&) = delete;
    alarm& operator=(const alarm&) = delete;
    ~alarm() {
        if (ticket_)
            clock_.cancel(*ticket_);
    }

    void ring() {
        rung = true;
        if (self_)
            wait(clock_.now());
    }

    class sleep {
    public:
        sleep(alarm& bell, time_point until) : bell_(bell), until_(until) {}
        sleep(const sleep&) = delete;
        sleep& operator=(const sleep&) = delete;
        ~sleep() { bell_.forget(); }
        bool await_ready() const { return bell_.rung; }
        void await_suspend(std::coroutine_handle<> self) {
            bell_.self_ = self;
            bell_.wait(until_);
        }
        void await_resume() {}

    private:
        alarm& bell_;
        time_point until_;
    };
    sleep until(time_point when) { return {*this, when}; }

    bool rung{};

private:
    void forget() {
        self_ = nullptr;
        if (ticket_)
            clock_.cancel(*ticket_);
        ticket_.reset();
    }
    void wait(time_point when) {
        if (ticket_)
            clock_.cancel(*ticket_);
        ticket_ = clock_.at(when, [this] { fire(); });
    }
    void fire() {
        ticket_.reset();
        if (frozen_until_ && *frozen_until_ > clock_.now())
            return wait(*frozen_until_);
        std::exchange(self_, nullptr).resume();
    }

    scheduler& clock_;
    const time_point* frozen_until_;
    std::coroutine_handle<> self_;
    std::optional<scheduler::ticket> ticket_;
};

// Owns routines that nobody awaits. REQUIRES: not destroyed by one of them.
class crew {
public:
    explicit crew(scheduler& clock) : clock_(clock) {}
    ~crew() { clear(); }
    crew(const crew&) = delete;
    crew& operator=(const crew&) = delete;

    void spawn(routine<> r) {
        sweep();
        routines_.push_back(std::move(r));
        routine<>& added = routines_.back();
        starts_.push_back(clock_.in({}, [&added] { added.start(); }));
    }
    bool idle() {
        sweep();
        return routines_.empty();
    }
    void clear() {
        for (const auto& t : std::exchange(starts_, {}))
            clock_.cancel(t);
        routines_.clear();
    }

private:
    void sweep() {
        std::erase_if(routines_, [](const routine<>& r) { return r.done(); });
    }

    scheduler& clock_;
    std::list<routine<>> routines_;
    std::list<scheduler::ticket> starts_;
};

} // namespace pointsman::sim
