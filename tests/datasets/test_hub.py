"""``hf://datasets/ORG/NAME`` through the real datasets library, against a local server that answers as the Hub does."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from model_garden.datasets import DatasetError, open_examples

REVISION = "a" * 40
FILES = {"train.jsonl": b'{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n'}


class Hub(BaseHTTPRequestHandler):
    """The few addresses that loading one data set asks for."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        here = "/datasets/org/name"
        if path == f"/api{here}" or path.startswith(f"/api{here}/revision/"):
            siblings = [{"rfilename": name} for name in FILES]
            answer = {"id": "org/name", "sha": REVISION, "private": False, "siblings": siblings}
        elif path.startswith(f"/api{here}/tree/"):
            answer = [{"type": "file", "oid": "b" * 40, "size": len(d), "path": n} for n, d in FILES.items()]
        elif path.startswith(f"{here}/resolve/"):
            name = path.rsplit("/", 1)[-1]
            if name in FILES:
                return self.answer(FILES[name], ETag='"1"', X_Repo_Commit=REVISION)
            return self.answer(b"", 404, X_Error_Code="EntryNotFound")
        else:
            return self.answer(b"{}", 404, X_Error_Code="RepoNotFound")
        return self.answer(json.dumps(answer).encode(), Content_Type="application/json")

    do_HEAD = do_GET


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


CODE = """
import sys
from model_garden.datasets import DatasetError, open_examples
for name, split in (("org/name", "train"), ("org/name", "test"), ("org/none", "train")):
    try:
        examples = open_examples(f"hf://datasets/{name}", vision=False, split=split)
        print(len(examples), [message.parts for message in examples[1].messages], examples[1].origin)
    except DatasetError as error:
        print(error)
"""


def opened(tmp_path, endpoint: str, **environment: str) -> list[str]:
    """What a new process prints: the library reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home")} | environment
    command = [sys.executable, "-c", CODE]
    result = subprocess.run(
        command, cwd=tmp_path, env=os.environ | settings, check=True, capture_output=True, text=True
    )
    return result.stdout.splitlines()


def test_a_data_set_of_the_hub_is_loaded_and_a_missing_one_is_refused_with_the_fix(hub, tmp_path):
    rows, no_split, nowhere = opened(tmp_path, hub)
    assert rows == "2 [('c',), ('d',)] hf://datasets/org/name row 2"
    assert no_split.startswith("hf://datasets/org/name split test: cannot be loaded: ")
    assert "Should be one of [\\'train\\']" in no_split
    assert nowhere.startswith("hf://datasets/org/none split train: not found: ")
    assert nowhere.endswith("check the name, and hubTokenSecret for a private or gated data set")


def test_a_hub_that_cannot_be_reached_is_reported(tmp_path):
    for line in opened(tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1"):
        assert "the Hub cannot be reached and the cache does not hold it: " in line
        assert line.endswith("check the network, or copy the data to the data claim and give its path")


def test_a_local_folder_of_the_same_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"a local ./org/name has the same name; use datasetPath: ./org/name"):
        open_examples("hf://datasets/org/name", vision=False)


def test_a_name_with_too_many_parts_is_refused():
    with pytest.raises(DatasetError, match="write it as hf://datasets/ORG/NAME, or hf://datasets/ORG/NAME/CONFIG"):
        open_examples("hf://datasets/a/b/c/d", vision=False)
