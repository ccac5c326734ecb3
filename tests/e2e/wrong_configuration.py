"""`pointsman run` with each of the wrong files in tests/config/wrong: one line with its place, exit status 2."""

import re
import subprocess
import unittest

import scenario

FILES = sorted((scenario.ROOT / "tests/config/wrong").glob("*.yml"))


class WrongConfiguration(unittest.TestCase):
    def test_there_are_twenty(self):
        self.assertGreaterEqual(len(FILES), 20)

    def test_each_is_refused_with_its_place(self):
        for file in FILES:
            with self.subTest(file=file.name):
                done = subprocess.run([scenario.given.pointsman, "run", "--config", file], capture_output=True,
                                      text=True, timeout=10, check=False)
                self.assertEqual(2, done.returncode, done.stderr)
                self.assertEqual("", done.stdout)
                self.assertEqual(1, len(done.stderr.splitlines()), done.stderr)
                self.assertRegex(done.stderr, re.escape(str(file)) + r":\d+:\d+: \S")
                print(done.stderr.strip().replace(str(file.parent) + "/", ""), flush=True)


if __name__ == "__main__":
    scenario.main()
