"""One Patroni node: its configuration file and its REST API."""

import glob
import http.client
import json


def binaries():
    """The folder of the newest PostgreSQL that Debian installed."""
    found = glob.glob("/usr/lib/postgresql/*/bin")
    if not found:
        raise FileNotFoundError("no PostgreSQL in /usr/lib/postgresql: run deploy/install-packages cluster")
    return max(found, key=lambda path: int(path.split("/")[4]))


class Node:
    def __init__(self, name, address, folder):
        self.name = name
        self.address = address
        self.folder = folder
        self.data = folder / "data"
        self.file = folder / "patroni.yml"
        self.log = folder / "patroni.log"
        self.noloadbalance = False
        self.rest_tls = {}

    def write_configuration(self, scope, etcd, timing):
        # JSON is YAML too.
        self.file.write_text(json.dumps(self._configuration(scope, etcd, timing), indent=2) + "\n")

    def _configuration(self, scope, etcd, timing):
        rest, database = f"{self.address}:8008", f"{self.address}:5432"
        return {
            "scope": scope,
            "namespace": "/service/",
            "name": self.name,
            "restapi": {"listen": rest, "connect_address": rest, **self.rest_tls},
            "etcd3": etcd,
            "bootstrap": {
                "dcs": {
                    **timing,
                    "postgresql": {"use_pg_rewind": True, "parameters": {
                        "max_connections": 100,
                        "max_replication_slots": 64,  # Patroni makes one for every member, hostile ones too
                    }},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "no-sync"],
            },
            "postgresql": {
                "listen": database,
                "connect_address": database,
                "data_dir": str(self.data),
                "bin_dir": binaries(),
                "pgpass": str(self.folder / "pgpass"),
                "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "replicator"}},
                # A laboratory: whoever is on this machine's loopback may connect.
                "pg_hba": ["local all all trust", "host all all 127.0.0.0/8 trust",
                           "host replication replicator 127.0.0.0/8 trust"],
                "basebackup": [{"checkpoint": "fast"}, "no-sync"],
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
                "parameters": {
                    "unix_socket_directories": str(self.folder),
                    "fsync": "off",
                    "dynamic_shared_memory_type": "mmap",  # in the data folder, so that it goes with it after a kill -9
                    "shared_buffers": "16MB",
                    "min_wal_size": "32MB",
                    "max_wal_size": "128MB",
                    "wal_keep_size": "64MB",
                },
            },
            "tags": {"noloadbalance": self.noloadbalance},
        }

    def get(self, path, timeout=2):
        """(status, body) of one GET; (None, {}) where there is no answer."""
        try:
            return self._request("GET", path, None, timeout)
        except (OSError, http.client.HTTPException):
            return None, {}

    def post(self, path, message=None, timeout=60):
        return self._request("POST", path, json.dumps(message) if message else None, timeout)

    def patch(self, path, message, timeout=20):
        return self._request("PATCH", path, json.dumps(message), timeout)

    def _request(self, method, path, body, timeout):
        connection = http.client.HTTPConnection(self.address, 8008, timeout=timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, {"text": text.strip()}

    def writable(self):
        status, body = self.get("/primary")
        return status == 200 and body.get("state") == "running" and body.get("role") in ("master", "primary")

    def fit_replica(self):
        return self.get("/replica")[0] == 200

    def postmaster(self):
        """The process id in postmaster.pid, or None."""
        try:
            return int((self.data / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
