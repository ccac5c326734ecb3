#include "agent/haproxy_cfg.hpp"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

using namespace pointsman::agent;

namespace {

std::vector<cfg_section> read(std::string_view text, const cfg_environment& environment = {}) {
    std::vector<cfg_section> sections;
    read_haproxy_cfg(sections, text, environment);
    return sections;
}

std::string joined(const cfg_words& words) {
    std::string text;
    for (const std::string& word : words)
        text += (text.empty() ? "" : "|") + word;
    return text;
}

} // namespace

TEST_CASE("haproxy cfg: a line is cut into words as HAProxy does", "[haproxy_cfg]") {
    const auto [name, line, words] = GENERATE(table<std::string, std::string, std::string>({
        {"blanks", "  retries\t40  ", "retries|40"},
        {"a comment", "retries 40 # per second", "retries|40"},
        {"a comment without a blank", "retries 40#3", "retries|40"},
        {"an escaped blank", "stats socket /run/a\\ b", "stats|socket|/run/a b"},
        {"an escaped hash", "stats socket /run/\\#1", "stats|socket|/run/#1"},
        {"single quotes", "a 'b # \\ $NAME \"' c", "a|b # \\ $NAME \"|c"},
        {"double quotes", "a \"b # \\\" ' \\$NAME\" c", "a|b # \" ' $NAME|c"},
        {"quotes within a word", "a b'c d'e", "a|bc de"},
        {"an empty word", "a '' \"\"", "a||"},
        {"a variable", "a \"x$NAME.y\"", "a|xvalue.y"},
        {"a variable in braces", "a \"${NAME}s\"", "a|values"},
        {"a variable that is not quoted", "a $NAME", "a|$NAME"},
        {"a variable that is not set", "a \"$NOTHING\"b", "a|b"},
        {"a default", "a \"${NOTHING-else}${NAME-other}\"", "a|elsevalue"},
        {"a variable that has no end", "a \"${NAME", "a|value"},
        {"quotes that have no end", "a 'b c", "a|b c"},
        {"a backslash at the end", "a b\\", "a|b\\"},
        {"a carriage return", "retries 40\r", "retries|40"},
    }));
    CAPTURE(name, line);

    const auto sections = read("global\n" + line + "\n", {{"NAME", "value"}});

    REQUIRE(sections.size() == 1);
    REQUIRE(sections[0].lines.size() == 1);
    CHECK(joined(sections[0].lines[0]) == words);
}

TEST_CASE("haproxy cfg: a proxy has the lines of its defaults", "[haproxy_cfg]") {
    std::vector<cfg_section> sections;
    read_haproxy_cfg(sections, "defaults\n mode tcp\nlisten a\n bind :1\ndefaults named from other\n mode http\n", {});
    read_haproxy_cfg(sections,
                     "backend b # of the last one, in the file before\n"
                     "defaults last from named\n retries 40\n"
                     "backend c from named\n"
                     "backend d\n retries 3\n"
                     "peers p\n server s 10.0.0.1:1\n",
                     {});
    const auto last_of = [&sections](std::string_view name, std::string_view word) {
        for (const auto& s : sections) {
            if (s.name != name)
                continue;
            const auto* line = last_line(s, {word});
            return line ? (*line)[1] : std::string("-");
        }
        return std::string("no section");
    };

    CHECK(last_of("a", "mode") == "tcp");
    CHECK(last_of("a", "bind") == ":1");
    CHECK(last_of("b", "mode") == "http");
    CHECK(last_of("c", "mode") == "http");
    CHECK(last_of("c", "retries") == "-");
    CHECK(last_of("d", "mode") == "http");
    CHECK(last_of("d", "retries") == "3");
    CHECK(last_of("d", "server") == "-");
    CHECK(last_of("p", "mode") == "-");
}

TEST_CASE("haproxy cfg: the last line counts, and a `no` takes one back", "[haproxy_cfg]") {
    const auto sections = read("listen a\n option redispatch\n option redispatch 1\n no option redispatch\n"
                               "listen b\n no option redispatch\n option redispatch 1\n");

    CHECK(last_line(sections[0], {"option", "redispatch"}) == nullptr);
    REQUIRE(last_line(sections[1], {"option", "redispatch"}));
    CHECK(joined(*last_line(sections[1], {"option", "redispatch"})) == "option|redispatch|1");
    CHECK(last_line(sections[1], {"option", "httpchk"}) == nullptr);
}

TEST_CASE("haproxy cfg: a server has the options of the default-server lines before it", "[haproxy_cfg]") {
    const auto sections =
        read("defaults\n default-server inter 1s\n"
             "listen a\n server hold 127.0.0.1:1 backup\n default-server rise 2 on-marked-down x\n"
             " server-template pg 1-8 slot.invalid:1 check port 8008 rise 3\n default-server fall 9\n");
    const auto servers = servers_of(sections[1]);

    REQUIRE(servers.size() == 2);
    CHECK(servers[0].name == "hold");
    CHECK(joined(servers[0].options) == "inter|1s|backup");
    CHECK(servers[1].name == "pg");
    CHECK(*value_of(servers[1].options, "rise") == "3");
    CHECK(*value_of(servers[1].options, "on-marked-down") == "x");
    CHECK(*value_of(servers[1].options, "inter") == "1s");
    CHECK(value_of(servers[1].options, "fall") == nullptr);
    CHECK(value_of({"port"}, "port") == nullptr);
}

TEST_CASE("haproxy cfg: what stands in any branch of an `.if` is there", "[haproxy_cfg]") {
    const auto sections = read(".if defined(X)\nglobal\n a\n.else\n b\n.endif\n c");

    REQUIRE(sections.size() == 1);
    CHECK(sections[0].lines.size() == 3);
}

TEST_CASE("haproxy cfg: nothing, and lines before any section, are no section", "[haproxy_cfg]") {
    CHECK(read("").empty());
    CHECK(read("# nothing\n\nretries 40\n").empty());
    CHECK(read("global").size() == 1);
}
