"""A TCP proxy before the API server that fails as a broken network does: nothing arrives, nothing is closed."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

from tests.cluster import TestCluster


class Proxy:
    """Forwards connections to the cluster's API server until ``cut`` or ``forget``."""

    def __init__(self, cluster: TestCluster) -> None:
        self._config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
        server = urlsplit(self._config["clusters"][0]["cluster"]["server"])
        self._target = (str(server.hostname), int(server.port or 443))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._gates: list[threading.Event] = []
        self._threads: list[threading.Thread] = []
        self._open_gate()
        threading.Thread(target=self._accept, daemon=True).start()

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig of the administrator that leads through the proxy."""
        self._config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        path = folder / "proxied"
        path.write_text(json.dumps(self._config))
        return path

    def cut(self) -> None:
        """From now on no byte passes."""
        self._gates[-1].clear()

    def forget(self) -> None:
        """No byte of the connections so far passes any more, as after a NAT has forgotten them; new ones work."""
        self.cut()
        self._open_gate()

    def close(self) -> None:
        """End all connections. The client has closed its own."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for gate in self._gates:
            gate.set()
        for thread in self._threads:
            thread.join(10)

    def _open_gate(self) -> None:
        self._gates.append(threading.Event())
        self._gates[-1].set()

    def _accept(self) -> None:
        with self._listener:
            while True:
                try:
                    client, _ = self._listener.accept()
                except OSError:  # it is closed
                    return
                server, gate = socket.create_connection(self._target), self._gates[-1]
                for source, sink in ((client, server), (server, client)):
                    thread = threading.Thread(target=self._forward, args=(source, sink, gate), daemon=True)
                    thread.start()
                    self._threads.append(thread)

    def _forward(self, source: socket.socket, sink: socket.socket, gate: threading.Event) -> None:
        with source, sink:
            try:
                while data := source.recv(65536):
                    gate.wait()
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other direction has ended
                pass
