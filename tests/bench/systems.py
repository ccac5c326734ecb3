"""What is compared: how clients find the primary and the replicas of the same cluster."""

import signal

from lab import haproxy
from lab.cluster import SCOPE
from lab.wait import until

CONNECT_TIMEOUT = 40  # seconds: what waits has not failed
OPTIONS = f"user=postgres dbname=postgres sslmode=disable gssencmode=disable connect_timeout={CONNECT_TIMEOUT}"

CHECKED = """\
    option httpchk OPTIONS {path}
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
"""

# As in Patroni's documentation and in its template for confd.
REFERENCE = """\
global
    stats socket {socket} level admin expose-fd listeners
    maxconn 1000
defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
"""


class System:
    """One way to the cluster. `commands` and `reloads` count what was done to HAProxy since the start."""

    name = ""

    def __init__(self, lab, options):
        self.lab = lab
        self.options = options

    def start(self):
        pass

    def reload(self):
        """Has HAProxy read its configuration again, where there is one. Returns whether there is."""
        return False

    def commands(self):
        return 0

    def reloads(self):
        return 0

    def log(self):
        """The agent's log, as text."""
        return ""


class Floor(System):
    """libpq with every node in its connection string: what PostgreSQL and Patroni themselves need."""

    name = "floor"

    def dsns(self):
        hosts = ",".join(f"{self.lab.network}.{number}" for number in range(1, self.options.nodes + 1))
        return {"write": f"host={hosts} port=5432 target_session_attrs=read-write {OPTIONS}",
                "read": f"host={hosts} port=5432 target_session_attrs=prefer-standby {OPTIONS}"}


class Proxied(System):
    """HAProxy on an address of its own, as master and worker."""

    number = 0

    def __init__(self, lab, options):
        super().__init__(lab, options)
        self.address = f"{lab.network}.{self.number}"
        self.folder = lab.folder / self.name
        self.folder.mkdir()
        self.socket = self.folder / "haproxy.sock"
        self.file = self.folder / "haproxy.cfg"
        self.by_hand = 0

    def dsns(self):
        return {"write": f"host={self.address} port=5000 {OPTIONS}", "read": f"host={self.address} port=5001 {OPTIONS}"}

    def start_haproxy(self):
        self.lab.processes.start(f"haproxy.{self.name}", [self.options.haproxy, "-W", "-db", "-f", self.file],
                                 self.folder / "haproxy.log")
        until(self.socket.exists, 10, f"HAProxy of {self.name} has its socket", every=0.01)

    def reload(self):
        before = haproxy.identity(self.socket)
        self.lab.processes.signal(f"haproxy.{self.name}", signal.SIGUSR2)
        self.by_hand += 1
        until(lambda: self._identity() not in (None, before), 10, f"HAProxy of {self.name} has a new worker", every=0.01)
        return True

    def _identity(self):
        try:
            return haproxy.identity(self.socket)
        except (OSError, KeyError):
            return None

    def reference(self):
        return REFERENCE.format(socket=self.socket)

    def listener(self, name, port, path):
        return f"listen {name}\n    bind {self.address}:{port}\n" + CHECKED.format(path=path)


class Checks(Proxied):
    """Every node listed, HAProxy's own checks decide: Patroni's reference configuration."""

    name = "checks"
    number = 201

    def start(self):
        servers = "".join(f"    server node{number} {self.lab.network}.{number}:5432 maxconn 100 check port 8008\n"
                          for number in range(1, self.options.nodes + 1))
        self.file.write_text(self.reference() + self.listener("primary", 5000, "/primary") + servers
                             + self.listener("replicas", 5001, "/replica") + servers)
        self.start_haproxy()


class Confd(Proxied):
    """The same, with the servers written from etcd by confd every 10 s, and a reload."""

    name = "confd"
    number = 202

    def start(self):
        servers = ('{{range gets "/members/*"}}{{$member := json .Value}}    server {{base .Key}} '
                   '{{index (split $member.conn_url "/") 2}} maxconn 100 check port '
                   '{{index (split (index (split $member.api_url "/") 2) ":") 1}}\n{{end}}')
        (self.folder / "templates").mkdir()
        (self.folder / "conf.d").mkdir()
        (self.folder / "templates/haproxy.tmpl").write_text(
            self.reference() + self.listener("primary", 5000, "/primary") + servers
            + self.listener("replicas", 5001, "/replica") + servers)
        script = self.folder / "reload"
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
        (self.folder / "conf.d/haproxy.toml").write_text(
            f'[template]\nprefix = "/service/{SCOPE}"\nsrc = "haproxy.tmpl"\ndest = "{self.file}"\nkeys = ["/members/"]\n'
            f'check_cmd = "{self.options.haproxy} -c -f {{{{.src}}}}"\nreload_cmd = "{script}"\n')
        command = [self.options.confd, "-backend", "etcdv3", "-node", self.lab.etcd.url, "-confdir", self.folder]
        self.lab.processes.start("confd.once", [*command, "-onetime"], self.folder / "confd.log")
        until(self.file.exists, 20, "confd has written haproxy.cfg")
        self.start_haproxy()
        script.write_text(f"#!/bin/sh\necho >>{self.folder}/reloads\n"
                          f"kill -USR2 {self.lab.processes.pid('haproxy.confd')}\n")
        self.lab.processes.start("confd", [*command, "-interval", "10"], self.folder / "confd.log")

    def reloads(self):
        file = self.folder / "reloads"
        return self.by_hand + (len(file.read_text().splitlines()) if file.exists() else 0)


SETTINGS = """\
haproxy:
  socket: {socket}
  state_file: {folder}/haproxy.state
etcd:
  endpoints: ["{etcd}"]
clusters:
  - scope: {scope}
    pools:
      - {{backend: primary, role: primary, check: /primary, bind: "{address}:5000"}}
      - {{backend: replicas, role: replica, check: /replica, bind: "{address}:5001", fallback: primary}}
listen: {address}:9127
"""


class Pointsman(Proxied):
    name = "pointsman"
    number = 200

    def start(self):
        settings = self.lab.settings
        settings.write_text(SETTINGS.format(socket=self.socket, folder=self.folder, etcd=self.lab.etcd.url, scope=SCOPE,
                                            address=self.address))
        self.file.write_text(haproxy.configuration(self.lab.pointsman, settings))
        self.start_haproxy()
        self.lab.start_agent()

    def commands(self):
        return self.log().count('command="')

    def reloads(self):
        return self.by_hand

    def log(self):
        return self.lab.agent_log.read_text(errors="replace")


ALL = [Floor, Checks, Confd, Pointsman]
