"""The rules of the house that can be seen in one file: purity, includes, co_await forms, banned names.

    lint.py FILE...      prints `file:line: what`, exits with 1 where there is a finding

Each rule says where it comes from: a letter and a number are a chapter of the style sheet.
"""

import pathlib
import re
import sys

# Comments, raw strings, strings and characters; a quote behind a digit separates digits (1'000).
NOT_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'""", re.S)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', re.M)

LEAVES = {"config", "etcd_http", "runtime_api"}

PURE_BANS = [
    (re.compile(r"::now\("), "a pure file reads no clock: take the time as an argument (A.2)"),
    (re.compile(r"\brandom_device\b"), "a pure file draws no chance: take the number as an argument (A.2)"),
    (re.compile(r"\bgetenv\b"), "a pure file reads no environment (A.1)"),
]
BANS = [
    (re.compile(r"\bdetached\b"), "asio::detached swallows exceptions: the handler rethrows (A.4, B.2)"),
    (re.compile(r"\bawaitable_operators\b"), "awaitable_operators hides exceptions: make_parallel_group (A.4, B.3)"),
    (re.compile(r"\b(?:ctx|ioc?|\w*context)_?(?:\.|->)stop\(\)"),
     "stop() leaves frames behind: cancel and drain (A.4, B.2)"),
]
CAPTURE_ALL = re.compile(r"\[\s*[&=]\s*[\],]")

# What may stand between the beginning of a statement and its co_await: nothing, co_return, `auto x =`, `auto [e, n] =`.
LAWFUL_PREFIX = re.compile(r"\s*(?:co_return\s+|(?:[\w:<>,&*\s]+?|(?:const\s+)?auto&?&?\s*\[[\w\s,]+\])\s*=\s*)?")
PARENTHESES = r"(\((?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*\))"
CONTROL = re.compile(r"\s*(?:else\b|do\b|(?:if|for|while|switch)(?:\s+constexpr)?\s*" + PARENTHESES +
                     r"|case\b[^:]*(?:::[^:]*)*:(?!:)|default\s*:)")
BLOCK_OPENS_AFTER = re.compile(r"(?:^|[);{}]|[^:]:|[>\w]\s)\s*$")
BRACED_ARGUMENT = re.compile(r"[(,]\s*\{|\{\s*\.\w")
CAPTURING_LAMBDA = re.compile(r"\[[^\[\]]*\w[^\[\]]*\]\s*[({]")


def blank(match):
    """Keeps lines where they are, and a string a string."""
    text = match.group(0)
    return ('""' if text[0] in "\"'R" else " ") + "\n" * text.count("\n")


class Source:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.text = self.path.read_text(encoding="utf-8")
        self.code = NOT_CODE.sub(blank, self.text)
        self.folder = self.path.parts[0]
        self.findings = set()

    def find(self, line, what):
        self.findings.add((line, what))

    def find_at(self, text, offset, what):
        self.find(text.count("\n", 0, offset) + 1, what)

    def includes(self):
        for match in INCLUDE.finditer(self.text):
            yield self.text.count("\n", 0, match.start()) + 1, match.group(1)

    def is_pure(self):
        """By its own first line, or by that of the header that it implements."""
        header = self.path.with_suffix(".hpp")
        return any(p.exists() and p.read_text(encoding="utf-8").startswith("// Pure:") for p in {self.path, header})


def check_purity(source):
    if not source.is_pure():
        return
    for line, name in source.includes():
        if re.match(r"boost/(asio|beast)|spdlog/", name):
            source.find(line, f"a pure file includes <{name}> (A.1)")
    for pattern, what in PURE_BANS:
        for match in pattern.finditer(source.code):
            source.find_at(source.code, match.start(), what)


def check_includes(source):
    if source.path.suffix == ".hpp" and not re.search(r"^#pragma once$", source.text, re.M):
        source.find(1, "a header without #pragma once (A.5)")
    for line, name in source.includes():
        top = name.split("/")[0]
        if source.folder in LEAVES and top in (LEAVES | {"agent"}) - {source.folder}:
            source.find(line, f"{source.folder} includes {name}: leaves include neither each other nor agent (A.1)")
        if top == "yaml-cpp" and source.path.as_posix() != "config/load.cpp":
            source.find(line, "yaml-cpp is for config/load.cpp only (A.1)")
        if source.folder == "tests":
            continue
        if top == "nlohmann":
            if source.folder not in ("etcd_http", "agent"):
                source.find(line, "nlohmann is for etcd_http and agent only (A.1)")
            elif source.path.suffix != ".cpp" and name != "nlohmann/json_fwd.hpp":
                source.find(line, "a header includes no more of nlohmann than json_fwd.hpp (A.5)")
        if top == "spdlog" and (source.folder != "agent" or source.path.suffix != ".cpp"):
            source.find(line, "spdlog is for agent/*.cpp only (A.1)")


def check_names(source):
    bans = BANS if source.folder == "tests" else BANS + [(CAPTURE_ALL, "a lambda names what it captures (A.4)")]
    for pattern, what in bans:
        for match in pattern.finditer(source.code):
            source.find_at(source.code, match.start(), what)


def statement_before(code, offset):
    """The statement that `offset` is in, up to there; how deep in parentheses that is, and whether in a braced list."""
    brace = max(code.rfind("{", 0, offset), code.rfind("}", 0, offset))
    begin, depth = brace + 1, 0
    for i in range(brace + 1, offset):
        # Below 0 it is the rest of a call that had a braced argument.
        depth = max(0, depth + {"(": 1, ")": -1}.get(code[i], 0))
        if code[i] == ";" and depth == 0:  # not those of a for
            begin = i + 1
    in_list = brace >= 0 and code[brace] == "{" and not BLOCK_OPENS_AFTER.search(code[:brace])
    return code[begin:offset], depth, in_list


def check_co_await(source):
    """g++ 12 miscompiles the other forms in silence (B.1)."""
    code = source.code
    for match in re.finditer(r"\bco_await\b", code):
        before, depth, in_list = statement_before(code, match.start())
        while control := CONTROL.match(before):
            before = before[control.end():]
        if depth > 0 or in_list or not LAWFUL_PREFIX.fullmatch(before):
            source.find_at(code, match.start(),
                           "co_await inside an expression: only `co_await f();`, `auto x = co_await f();`, "
                           "`co_return co_await f();` (A.4, B.1)")
        operand = code[match.end():code.find(";", match.end())]
        if "?" in operand or BRACED_ARGUMENT.search(operand) or CAPTURING_LAMBDA.search(operand):
            source.find_at(code, match.start(),
                           "?:, a braced list or a capturing lambda in the operand of co_await: name it first (B.1)")


def main():
    status = 0
    for path in sys.argv[1:]:
        source = Source(path)
        for check in (check_purity, check_includes, check_names, check_co_await):
            check(source)
        for line, what in sorted(source.findings):
            print(f"{source.path}:{line}: {what}")
            status = 1
    return status


sys.exit(main())
