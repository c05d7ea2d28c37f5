"""A TCP proxy before the API server. A test cuts it as a broken network does: nothing arrives, nothing is closed."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

from tests.cluster import TestCluster


class Proxy:
    """Forwards connections to the cluster's API server until ``cut``."""

    def __init__(self, cluster: TestCluster) -> None:
        self._config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
        server = urlsplit(self._config["clusters"][0]["cluster"]["server"])
        self._target = (str(server.hostname), int(server.port or 443))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = threading.Event()
        self._open.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig of the administrator that leads through the proxy."""
        self._config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        path = folder / "proxied"
        path.write_text(json.dumps(self._config))
        return path

    def cut(self) -> None:
        """From now on no byte passes."""
        self._open.clear()

    def close(self) -> None:
        """End all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._open.set()

    def _accept(self) -> None:
        with self._listener:
            while True:
                try:
                    client, _ = self._listener.accept()
                except OSError:  # it is closed
                    return
                server = socket.create_connection(self._target)
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with source, sink:
            try:
                while data := source.recv(65536):
                    self._open.wait()
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other direction has ended
                pass
