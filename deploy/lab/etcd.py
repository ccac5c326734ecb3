"""etcd through its JSON gateway: just what the lab needs."""

import base64
import json
import urllib.request


def _encode(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


class Etcd:
    def __init__(self, url):
        self.url = url

    def get(self, key):
        """The key's value as text, or None."""
        found = self._post("/v3/kv/range", {"key": _encode(key)}).get("kvs")
        return base64.b64decode(found[0].get("value", "")).decode() if found else None

    def put(self, key, value):
        self._post("/v3/kv/put", {"key": _encode(key), "value": _encode(value)})

    def delete(self, key):
        self._post("/v3/kv/deleterange", {"key": _encode(key)})

    def healthy(self):
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _post(self, path, message):
        request = urllib.request.Request(self.url + path, json.dumps(message).encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)
