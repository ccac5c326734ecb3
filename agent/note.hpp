// Pure: what is to be told in the log, decided where the reason is known and written where the log is.
#pragma once

#include <string>
#include <vector>

namespace pointsman::agent {

enum class severity { info, warning, error };

struct note {
    severity how{};
    std::string text;
};

using notes = std::vector<note>;

} // namespace pointsman::agent
