// Everything that can go wrong, each as a routine with a beginning, a time, and an end.
#pragma once

#include "routine.hpp"

#include <string>
#include <vector>

namespace pointsman::sim {

struct world;

struct fault {
    std::string name;
    routine<> (*run)(world&);
};

const std::vector<fault>& all_faults();

} // namespace pointsman::sim
