"""deploy/pointsman.service under a real systemd, with Debian's own units of HAProxy and etcd beside it: what the sandbox
allows and what not, the watchdog, what happens however the agent ends, and what the agent may do as a user without rights.

systemd runs as the first process of a container without a network, over a copy of this machine's files that is thrown away;
unit_inside.py is the test in there.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import scenario
from lab.cluster import state_parent

INSIDE = "srv/pointsman-test"

SETTINGS = """\
haproxy:
  socket: /run/haproxy/admin.sock
  master_socket: /run/haproxy-master.sock
  state_file: /var/lib/pointsman/haproxy.state
etcd: {endpoints: ["http://127.0.0.1:2379"]}
clusters:
  - scope: demo
    pools:
      - {backend: primary, role: primary, check: /master, bind: "127.0.45.100:5000"}
"""

TEST = f"""\
[Unit]
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -B /{INSIDE}/unit_inside.py
StandardOutput=file:/{INSIDE}/output
StandardError=file:/{INSIDE}/output
"""


def run(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


class Unit(unittest.TestCase):
    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("needs root: systemd runs in a container")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pointsman-unit.", dir=state_parent()))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.root = self.folder / "root"
        for name in ("root", "changes", "work"):
            (self.folder / name).mkdir()
        run("mount", "-t", "overlay", "overlay", "-o",
            f"lowerdir=/,upperdir={self.folder}/changes,workdir={self.folder}/work", self.root)
        self.addCleanup(run, "umount", self.root)

    def put(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def install(self):
        """As the README has it."""
        shutil.copy(scenario.given.pointsman, self.root / "usr/bin/pointsman")
        shutil.copy(scenario.ROOT / "deploy/pointsman.service", self.root / "etc/systemd/system/")
        self.put("etc/pointsman/pointsman.yml", SETTINGS)
        shutil.copy(scenario.ROOT / "deploy/hold.lua", self.root / "etc/pointsman/")
        run("useradd", "--root", self.root, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "--gid",
            "haproxy", "pointsman")
        printed = run(scenario.given.pointsman, "haproxy-config", "--config", self.root / "etc/pointsman/pointsman.yml")
        self.put("etc/haproxy/haproxy.cfg", printed + "\nglobal\n    user haproxy\n    group haproxy\n")
        self.put("etc/default/haproxy", 'EXTRAOPTS="-S /run/haproxy-master.sock,mode,660,group,haproxy"\n')

    def test_unit(self):
        self.install()
        self.put("etc/hosts", "127.0.0.1 localhost\n127.0.45.1 pg1.test\n127.0.45.2 pg2.test\n")
        self.put("etc/systemd/system/pointsman-test.service", TEST)
        self.put(f"{INSIDE}/unit_inside.py", (scenario.ROOT / "tests/e2e/unit_inside.py").read_text())
        output = self.root / INSIDE / "output"
        with open(self.folder / "console", "wb") as console:
            container = subprocess.Popen(
                ["systemd-nspawn", "--register=no", "--keep-unit", "--private-network", "--resolv-conf=off",
                 "--console=pipe", f"--directory={self.root}", "--boot", "systemd.unit=pointsman-test.service"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True)
        try:
            container.wait(180)
        finally:
            container.kill()
            container.wait()
            said = output.read_text(errors="replace") if output.exists() else ""
            print(said or (self.folder / "console").read_text(errors="replace")[-4000:], flush=True)
        self.assertTrue(said.rstrip().endswith("OK"))


if __name__ == "__main__":
    scenario.main()
