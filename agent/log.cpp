#include "agent/log.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cstdlib>

namespace pointsman::agent {

namespace {

spdlog::level::level_enum level_of(config::log_level level) {
    switch (level) {
        case config::log_level::debug: return spdlog::level::debug;
        case config::log_level::info: return spdlog::level::info;
        case config::log_level::warning: return spdlog::level::warn;
        case config::log_level::error: return spdlog::level::err;
    }
    return spdlog::level::info;
}

// `%*`: the message as a JSON string.
class json_message : public spdlog::custom_flag_formatter {
public:
    void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
        const std::string_view text(message.payload.data(), message.payload.size());
        const std::string quoted = nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
        out.append(quoted.data(), quoted.data() + quoted.size());
    }

    std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<json_message>(); }
};

// `%&`: the level as the prefix by which journald knows a line's priority (sd-daemon(3)).
class journal_priority : public spdlog::custom_flag_formatter {
public:
    void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
        const std::string_view prefix = prefix_of(message.level);
        out.append(prefix.data(), prefix.data() + prefix.size());
    }

    std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<journal_priority>(); }

private:
    static std::string_view prefix_of(spdlog::level::level_enum level) {
        switch (level) {
            case spdlog::level::err: return SD_ERR;
            case spdlog::level::warn: return SD_WARNING;
            case spdlog::level::info: return SD_INFO;
            default: return SD_DEBUG;
        }
    }
};

// Whether standard error is journald's: JOURNAL_STREAM has its device and inode (systemd.exec(5)).
bool logs_to_journald() {
    const char* stream = std::getenv("JOURNAL_STREAM");
    struct stat self {};
    return stream && fstat(STDERR_FILENO, &self) == 0 && fmt::format("{}:{}", self.st_dev, self.st_ino) == stream;
}

} // namespace

void set_up_log(const config::log_settings& settings) {
    const bool journald = logs_to_journald();
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<journal_priority>('&').add_flag<json_message>('*');
    if (settings.format == config::log_format::json)
        formatter->set_pattern(std::string(journald ? "%&" : "") +
                               R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%*})");
    else // journald stamps every line itself
        formatter->set_pattern(journald ? "%&%l: %v" : "%Y-%m-%dT%H:%M:%S.%e %l: %v");
    auto logger = std::make_shared<spdlog::logger>("pointsman", std::make_shared<spdlog::sinks::stderr_sink_st>());
    logger->set_formatter(std::move(formatter));
    logger->set_level(level_of(settings.level));
    logger->flush_on(spdlog::level::debug);
    spdlog::set_default_logger(std::move(logger));
}

void log(const notes& all) {
    for (const note& n : all) {
        switch (n.how) {
            case severity::info: spdlog::info("{}", n.text); break;
            case severity::warning: spdlog::warn("{}", n.text); break;
            case severity::error: spdlog::error("{}", n.text); break;
        }
    }
}

} // namespace pointsman::agent
