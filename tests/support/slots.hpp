// Slots from a compact text, and HAProxy's reaction to commands as far as a slot shows it, for tests of the pure core.
#pragma once

#include "runtime_api/command.hpp"
#include "runtime_api/server_state.hpp"

#include <span>
#include <string>
#include <vector>

namespace pointsman::test {

runtime_api::address address(const std::string& text); // "10.0.0.1:5432"

// "pg1 ready 10.0.0.1:5432, pg2 maint, pg3 drain 10.0.0.3:5432 w50 unchecked, pg4 maint none": a slot without an
// address is at HAProxy's 127.0.0.1:1, `none` has none that could be changed. Weight 1 and checked unless it says
// otherwise.
std::vector<runtime_api::slot> slots(const std::string& backend, const std::string& text);

// The same text from slots.
std::string text_of(std::span<const runtime_api::slot> slots);

// What HAProxy makes of a command (facts 4): the address changes whatever the state, leaving maint is UP at once.
void apply(std::vector<runtime_api::slot>& slots, const runtime_api::command& c);

} // namespace pointsman::test
