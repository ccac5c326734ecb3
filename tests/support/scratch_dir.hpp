#pragma once

#include <string>
#include <string_view>

namespace pointsman::test {

// A directory of its own under /dev/shm, where fsync costs nothing; gone at the end. Its path is short enough for
// sockets.
class scratch_dir {
public:
    scratch_dir();
    scratch_dir(const scratch_dir&) = delete;
    scratch_dir& operator=(const scratch_dir&) = delete;
    ~scratch_dir();

    std::string path(std::string_view file) const { return path_ + '/' + std::string(file); }

private:
    std::string path_;
};

void write_text(const std::string& path, std::string_view text);

// Empty where there is no such file.
std::string read_text(const std::string& path);

} // namespace pointsman::test
