// Replaces a file as a whole: after a crash at any moment there is the old text or the new one. For HAProxy's
// server-state file, which HAProxy must be able to read.
#pragma once

#include "runtime_api/error.hpp"

#include <string>
#include <string_view>

namespace pointsman::runtime_api {

// Blocks for the disk. The new text stands beside the file, as `path` with `.new`, until it is whole; what a full disk
// left of it is removed. Readable for everybody, whatever our umask.
result<void> replace_file(const std::string& path, std::string_view text);

} // namespace pointsman::runtime_api
