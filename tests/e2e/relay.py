"""A socket between the agent and HAProxy: keeps every line that the agent sends, and can spoil the answers."""

import contextlib
import socket
import threading


def whole(answer):
    return answer


def hung(_answer):
    return None


class Relay:
    def __init__(self, path, upstream):
        self.path, self.upstream = path, upstream
        self.lines = []
        self.spoil = whole  # the part of an answer that the agent gets; None: it hangs until the agent gives up
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._relay, args=(connection,), daemon=True).start()

    def _relay(self, connection):
        with connection, socket.socket(socket.AF_UNIX) as haproxy_side, contextlib.suppress(OSError):
            sent, answer = b"", b""
            while not sent.endswith(b"\n") and (part := connection.recv(65536)):
                sent += part
            self.lines.append(sent.decode(errors="replace"))
            haproxy_side.connect(str(self.upstream))
            haproxy_side.sendall(sent)
            while part := haproxy_side.recv(65536):
                answer += part
            spoilt = self.spoil(answer)
            if spoilt is None:
                connection.recv(1)
            else:
                connection.sendall(spoilt)

    def close(self):
        self.listener.close()
