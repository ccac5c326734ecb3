"""The man pages and the bash completion beside the program: whatever it takes is in both, and nothing else is.

Commands and options are those that `--help` prints; the keys of the configuration are asked of the program, by the
refusal of a key that it cannot know.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COMPLETION = ROOT / "deploy/completions/pointsman"
COMMANDS = ROOT / "deploy/man/pointsman.1"
KEYS = ROOT / "deploy/man/pointsman.yml.5"
given = argparse.Namespace(pointsman=ROOT / "build/release/pointsman")


def run(*words, **options):
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False, **options)


def options_of(*command):
    """What `pointsman COMMAND --help` lists as options."""
    _, _, options = run(given.pointsman, *command, "--help").stdout.partition("\nOptions:\n")
    options = options.partition("\n\n")[0]
    return {name for names in re.findall(r"^  (-\S+)", options, re.M) for name in names.split(",")}


def commands():
    _, _, listed = run(given.pointsman, "--help").stdout.partition("\nSubcommands:\n")
    return re.findall(r"^  (\S+)", listed, re.M)


def section(page, name):
    return re.search(rf'^\.Sh {name}\n(.*?)(?=^\.Sh |\Z)', page.read_text(), re.M | re.S).group(1)


def flags(text):
    return {"-" + name for name in re.findall(r"\bFl (-?[a-z-]+)", text)}


def entries(text):
    """The items of a page's outermost lists: what stands behind `.It`, and what is said of it."""
    result, depth, head = {}, 0, ""
    for line in text.splitlines():
        depth += line.startswith(".Bl") - line.startswith(".El")
        if depth == 1 and line.startswith(".It "):
            head = line.removeprefix(".It ")
            result[head] = ""
        elif depth and head:
            result[head] += line + "\n"
    return result


class ManPages(unittest.TestCase):
    def test_lint(self):
        for page in (COMMANDS, KEYS):
            # Other pages need not be installed here.
            told = [line for line in run("mandoc", "-Tlint", page).stdout.splitlines()
                    if "STYLE: referenced manual not found" not in line]
            self.assertEqual([], told)
            groff = run("man", "--warnings", "-l", page, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"})
            self.assertEqual((0, ""), (groff.returncode, groff.stderr))

    def test_commands_and_options(self):
        told = {head.split()[1]: (head, text) for head, text in entries(section(COMMANDS, "COMMANDS")).items()}
        self.assertEqual(commands(), list(told), "in the order of --help")
        for command, (head, text) in told.items():
            with self.subTest(command):
                known = options_of(command) - {"-h", "--help"}
                self.assertEqual(known, flags(head), "the head of the entry")
                self.assertEqual(known, flags("".join(re.findall(r"^\.It Fl .*", text, re.M))), "explained")
        general = set().union(*(flags(head) for head in entries(section(COMMANDS, "OPTIONS"))))
        self.assertEqual(options_of(), general)

    def test_paths(self):
        served = re.findall(r'(?:served|live)\["(/.*?)"\] =', (ROOT / "agent/daemon.cpp").read_text())
        told = [head.removeprefix("Pa ") for head in entries(section(COMMANDS, "HTTP"))]
        self.assertEqual(sorted(served), sorted(told))

    def test_exit_status(self):
        self.assertEqual({"0", "1", "2", "3"}, set(entries(section(COMMANDS, "EXIT STATUS"))))


class Completion(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="pointsman-completion.")
        self.addCleanup(self.folder.cleanup)
        self.program = pathlib.Path(self.folder.name) / "pointsman"

    def complete(self, line, program=given.pointsman):
        """What TAB offers behind `line`, which begins with the program."""
        words = [word for word in re.split(r"\s+|([:=])", line) if word is not None]  # as bash has them
        script = ('set -u; source "$1"; COMP_LINE=$2; COMP_POINT=${#2}; COMP_WORDBREAKS=$\' \\t\\n"\\\'><=;|&(:\'; '
                  'program=$3; shift 3; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pointsman "$program"; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = run("bash", "--norc", "-c", script, "bash", COMPLETION, line, program, *words, cwd=self.folder.name)
        self.assertEqual((0, ""), (done.returncode, done.stderr), line)
        return done.stdout.split("\n")[:-1] if done.stdout != "\n" else []

    def is_a_program(self, text):
        self.program.write_text("#!/bin/bash\n" + text)
        self.program.chmod(0o755)

    def test_it_is_registered(self):
        done = run("bash", "--norc", "-c", 'source "$1"; complete -p pointsman', "bash", COMPLETION)
        self.assertEqual("complete -F _pointsman pointsman\n", done.stdout)

    def test_commands_and_options(self):
        self.assertEqual(commands(), self.complete("pointsman "))
        self.assertEqual(["resume", "release"], self.complete("pointsman --config /etc/x re"))
        self.assertEqual(options_of() - {"-h"}, set(self.complete("pointsman -")))
        for command in commands():
            known = options_of(command) - {"-h"} | {"--config"}
            self.assertEqual(known, set(self.complete(f"pointsman {command} -")), command)
        self.assertEqual(["--last"], self.complete("pointsman events --cut --l"))
        self.assertEqual([], self.complete("pointsman events --last "))
        self.assertEqual(["10m", "1h"], self.complete("pointsman pause --for 1"))
        self.assertEqual(["30m"], self.complete("pointsman pause --for=3"))

    def test_files(self):
        for name in ("one.yml", "two words.yml"):
            (pathlib.Path(self.folder.name) / name).touch()
        for line in ("pointsman --config o", "pointsman --config=o", "pointsman slots --config o"):
            self.assertEqual(["one.yml"], self.complete(line))
        self.assertEqual(["two words.yml"], self.complete("pointsman --config two\\ w"))

    def test_names(self):
        self.is_a_program(r"""
[ "$*" = "slots --json --config /etc/other.yml" ] || exit
cat <<'END'
[
{"backend":"primary","slot":"pg1","member":"node1","address":null},
{"backend":"primary","slot":"pg2","member":null,"address":null},
{"backend":"b:1","slot":"pg1","member":"node1","address":null},
{"backend":"b:1","slot":"pg2","member":"$(touch harm)","address":null},
{"backend":"b:1","slot":"pg3","member":"a\",\"slot\":\"x","address":null}
]
END
""")
        self.assertEqual(["primary/pg1", "node1", "primary/pg2", "b:1/pg1", "b:1/pg2", "b:1/pg3"],
                         self.complete("pointsman --config /etc/other.yml why ", self.program))
        self.assertEqual(["node1"], self.complete("pointsman why --config /etc/other.yml n", self.program))
        self.assertEqual(["1/pg2"], self.complete("pointsman why --config /etc/other.yml b:1/pg2", self.program),
                         "readline's word begins behind the colon")
        self.assertEqual([], self.complete("pointsman why ", self.program), "nothing there answers")
        self.assertEqual([], [file.name for file in pathlib.Path(self.folder.name).iterdir() if file != self.program])

    def test_no_answer(self):
        self.is_a_program("exec sleep 20\n")
        began = time.monotonic()
        self.assertEqual([], self.complete("pointsman why ", self.program))
        self.assertLess(time.monotonic() - began, 5)


class Configuration(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="pointsman-keys.")
        self.addCleanup(self.folder.cleanup)
        self.file = pathlib.Path(self.folder.name) / "pointsman.yml"

    def refusal(self, text):
        self.file.write_text(text)
        done = run(given.pointsman, "haproxy-config", "--config", self.file)
        self.assertEqual((2, ""), (done.returncode, done.stdout), text)
        return done.stderr

    def keys(self, before="{", after="}", name=""):
        """Every key below, by its full name, with what is expected there; None for a mapping or a list of them."""
        told = self.refusal(before + "not.a.key.of.any.kind: 1" + after)
        known = re.search("known here: (.*)", told)
        self.assertTrue(known, told)
        result = {}
        for key in known.group(1).split(", "):
            full = f"{name}.{key}" if name else key
            told = self.refusal(f"{before}{key}: {{none: 1}}{after}")
            if "unknown key" in told:
                inner, ending = "{", "}"
            elif "expected a list of" in told and "unknown key" in self.refusal(f"{before}{key}: [{{none: 1}}]{after}"):
                inner, ending = "[{", "}]"
            else:
                result[full] = told.partition("expected ")[2].strip()
                continue
            result[full] = None
            result.update(self.keys(f"{before}{key}: {inner}", ending + after, full))
        return result

    def test_every_key_is_in_the_page(self):
        known = self.keys()
        self.assertIn("clusters.pools.weight.lag.from", known)
        # The three of TLS are explained once.
        wanted = {re.sub(r"^.*\.tls\.", "tls.", key): expected for key, expected in known.items()}
        told = {}
        for head, text in entries(section(KEYS, "DESCRIPTION")).items():
            if head.startswith("Cm "):
                told.update({key: text for key in head.removeprefix("Cm ").split(" , ")})
        self.assertLessEqual(set(told), set(wanted), "no key that does not exist")
        self.assertLessEqual({key for key, expected in wanted.items() if expected}, set(told), "every key")
        for key, text in told.items():
            limits = re.match("a duration of (.* to .*), such", wanted[key] or "")
            if limits:
                self.assertIn(f"Duration, {limits.group(1)}.\n", text, key)

    def test_what_is_required(self):
        """What the program asks for when there is nothing else."""
        required, missing = set(), re.compile(r"missing key '(\w+)'.*; for example")
        for text in ("{}", "{haproxy: {}}", "{etcd: {}}", "{clusters: [{}]}", "{clusters: [{scope: a}]}",
                     "{clusters: [{pools: [{}]}]}", "{clusters: [{pools: [{backend: a}]}]}",
                     "{clusters: [{pools: [{backend: a, role: primary}]}]}"):
            required.add(missing.search(self.refusal(text)).group(1))
        told = {head.split(".")[-1] for head, text in entries(section(KEYS, "DESCRIPTION")).items()
                if text.startswith(".Em Required .")}
        self.assertEqual(required - {"haproxy"}, told)

    def test_examples_are_right(self):
        examples = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", section(KEYS, "EXAMPLES"), re.M | re.S)
        self.assertEqual(2, len(examples))
        known = self.keys()
        for text in (*examples, (ROOT / "deploy/pointsman.yml").read_text()):
            self.file.write_text(text)
            done = run(given.pointsman, "haproxy-config", "--config", self.file)
            self.assertEqual((0, ""), (done.returncode, done.stderr))
        for file in ("deploy/pointsman.yml", "README.md"):
            text = (ROOT / file).read_text()
            self.assertEqual([], [key for key in known if not re.search(rf"\b{key.split('.')[-1]}\b", text)], file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pointsman", type=lambda path: pathlib.Path(path).resolve(), default=given.pointsman)
    options, rest = parser.parse_known_args()
    vars(given).update(vars(options))
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
