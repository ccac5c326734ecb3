// Reads the YAML configuration file into settings.
//
// Everything that is not understood is refused with file, line and column and what would be right: an unknown or
// duplicate key, a wrong type, an impossible value, a missing key. The agent never starts half-configured.
#pragma once

#include "config/settings.hpp"

#include <stdexcept>
#include <string>
#include <string_view>

namespace pointsman::config {

// what() is one line: `/etc/pointsman/pointsman.yml:12:5: unknown key 'interva'; did you mean 'interval'?`
class config_error : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Throws config_error, also where the file cannot be read.
settings load_file(const std::string& path);

// The same for a text; `name` stands for the file in errors.
settings load_text(std::string_view text, const std::string& name);

} // namespace pointsman::config
