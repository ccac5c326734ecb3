"""The status page, as Chromium shows it: at rest, through a switchover, paused, and when the daemon is gone."""

import json
import pathlib
import shutil
import subprocess

import scenario
from lab import clients

BROWSER = scenario.ROOT / "tests/browser"
HOSTILE = "<img src=x onerror=window.injected=1>"


class StatusPage(scenario.Scenario):
    def test_in_a_browser(self):
        for needed, path in (("chromium", "/usr/bin/chromium"), ("playwright", BROWSER / "node_modules/playwright-core")):
            self.assertTrue(pathlib.Path(path).exists(), f"{needed} is missing; tests/run installs it")
        clients.create_ledger(self.lab.leader())
        self.load = self.clients(writers=2, readers=1, kept=2)
        words = [shutil.which("node"), BROWSER / "status_page.mjs", f"http://{self.lab.proxy_address}:9127/"]
        if scenario.given.shots:
            scenario.given.shots.mkdir(parents=True, exist_ok=True)
            words.append(scenario.given.shots)
        with subprocess.Popen(list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as browser:
            self.addCleanup(browser.kill)
            for line in browser.stdout:
                message = json.loads(line)
                if "figure" in message:
                    self.figure(message["figure"])
                else:
                    browser.stdin.write(json.dumps(getattr(self, message["ask"])()) + "\n")
                    browser.stdin.flush()
            self.assertEqual(0, browser.wait(timeout=30), "the browser's exit status; its reason is above")

    # What the browser asks for

    def begin(self):
        return {"leader": self.lab.leader().name, "members": [node.name for node in self.lab.nodes()]}

    def switchover(self):
        old = self.lab.leader()
        new = next(node for node in self.lab.nodes() if node.name != old.name)
        self.lab.switchover(new)
        return {"to": new.name}

    def pause(self):
        self.lab.ask_pointsman("pause", "--for", "1h")

    def resume(self):
        self.lab.ask_pointsman("resume")

    def kill(self):
        self.load.stop()
        self.lab.processes.kill("pointsman")

    def start(self):
        self.lab.start_agent()

    def hostile(self):
        host = f"{scenario.given.network}.150"
        self.lab.etcd.put(self.lab.key(f"members/{HOSTILE}"), json.dumps(
            {"conn_url": f"postgres://{host}:5432/postgres", "api_url": f"http://{host}:8008/patroni",
             "state": "running", "role": "<script>window.injected=1</script>"}))
        return {"name": HOSTILE}


if __name__ == "__main__":
    scenario.main()
