// Pure: what `why` and `plan` print, from the document that report.hpp makes, in this version or another.
#pragma once

#include <boost/system/result.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace pointsman::agent {

struct why_not {
    bool not_found{}; // the document is in order, but has nothing of this name; else it is no such document
    std::string detail;
};

template<class T>
using told = boost::system::result<T, why_not>;

// Of a member, in every cluster that has one of this name, or of BACKEND/SLOT: what is observed, what is desired, every
// input with its age, the rule that decided and what would change it. As text, or the parts of the document as JSON.
told<std::string> explain(std::string_view document, const std::string& what, bool json);

struct next_pass {
    std::size_t commands{};
    std::string text;
};

// The commands of the next pass, and why each; one line that says so where there are none.
told<next_pass> explain_plan(std::string_view document, bool json);

} // namespace pointsman::agent
