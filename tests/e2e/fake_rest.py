"""REST APIs that lie, hang or never end."""

import contextlib
import json
import socket
import threading
import time

SLOW = 0.8  # seconds; a probe waits for one


class Rest:
    """A REST API that answers every GET the same way: with one text, with bytes that never end, or never."""

    def __init__(self, address, port, answer):
        self.url = f"http://{address}:{port}/patroni"
        self.answer = answer
        self.asked = 0
        self.listener = socket.create_server((address, port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            request = connection.recv(4096)
            self.asked += 1
            for part in self.answer(connection, request):
                connection.sendall(part)

    def close(self):
        self.listener.close()


def reply(status, body):
    return f"HTTP/1.0 {status} -\r\nContent-Type: application/json\r\n\r\n{json.dumps(body)}".encode()


def fit_replica(_connection, _request):
    yield reply(200, {"state": "running", "role": "replica", "timeline": 1})


def stopped(_connection, _request):
    yield reply(503, {"state": "stopped", "role": "replica"})


def claims_to_lead(_connection, request):
    yield reply(200 if b"/master" in request else 503, {"state": "running", "role": "master", "timeline": 99})


def never_ends(_connection, _request):
    yield b"HTTP/1.0 200 OK\r\n\r\n{\"state\": \""
    while True:
        yield b"x" * 65536


def endless_header(_connection, _request):
    yield b"HTTP/1.0 200 OK\r\n"
    while True:
        yield b"X-Filler: " + b"y" * 65526


def never_answers(connection, _request):
    yield connection.recv(1)  # the client gives up first


def garbage(_connection, _request):
    yield bytes(range(256)) * 16


def slowly(address):
    """What the REST API at this address answers, a while later."""
    def answer(_connection, request):
        with socket.create_connection((address, 8008), timeout=5) as real:
            real.sendall(request)
            parts = []
            while part := real.recv(65536):
                parts.append(part)
        time.sleep(SLOW)
        yield b"".join(parts)
    return answer
