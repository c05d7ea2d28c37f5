"""A process is known by its pid and the moment it started."""

import os
import signal
import subprocess
import sys

import pytest

from devcluster import processes
from devcluster.processes import Process, birth, start, stop


@pytest.fixture(params=["this system's own way", "ps"])
def way(request, monkeypatch):
    """Linux reads /proc; other systems ask ps, which Linux has, too."""
    if request.param == "ps":
        monkeypatch.setattr(processes.sys, "platform", "another")


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


def test_a_process_is_known_again(way, sleeper, tmp_path):
    Process.of(sleeper.pid, ["sleep", "60"]).write(tmp_path / "record.json")
    found = Process.read(tmp_path / "record.json")
    assert found and found.alive and found.command == ["sleep", "60"]
    assert birth(sleeper.pid) != "" and birth(os.getpid()) != ""


def test_an_ended_process_is_not_alive_even_before_its_parent_waited(way, sleeper):
    process = Process.of(sleeper.pid, [])
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is a zombie now
    assert not process.alive


def test_a_pid_used_again_is_never_signalled(way, sleeper):
    earlier = Process(sleeper.pid, "another moment", [])
    earlier.signal(signal.SIGKILL)
    earlier.signal_group(signal.SIGKILL)
    stop([earlier])
    assert sleeper.poll() is None


def test_stop_asks_first_and_kills_then(tmp_path):
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    log = tmp_path / "log"
    process = start([sys.executable, "-c", stubborn], log)
    while "deaf" not in log.read_text():
        assert process.alive
    stop([process], grace=0.1)
    assert not process.alive


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_damaged_record_is_no_record(tmp_path, content):
    (tmp_path / "record.json").write_text(content)
    assert Process.read(tmp_path / "record.json") is None
