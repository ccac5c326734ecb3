#include "agent/log.hpp"

#include <nlohmann/json.hpp>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

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

} // namespace

void set_up_log(const config::log_settings& settings) {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    if (settings.format == config::log_format::json) {
        formatter->add_flag<json_message>('*').set_pattern(
            R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%*})");
    } else {
        // journald stamps every line itself (JOURNAL_STREAM is its sign).
        formatter->set_pattern(std::getenv("JOURNAL_STREAM") ? "%l: %v" : "%Y-%m-%dT%H:%M:%S.%e %l: %v");
    }
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
