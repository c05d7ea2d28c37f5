"""Several processes in one pod, one a GPU: started here, stopped together, and ended with one exit code and outcome.

Each gets the variables that ``torchrun`` gives (RANK, LOCAL_RANK, WORLD_SIZE, …), so that the trainer runs under
``torchrun`` just as well. It is not used here because it turns every exit code into 1, kills processes 30 seconds after
SIGTERM, in the middle of a checkpoint, and costs an import of torch. No torch here.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from model_garden.contract.names import TERMINATION_ENV
from model_garden.contract.progress import Outcome, parse_outcome
from model_garden.contract.reasons import ERROR, NO_RETRY, WORKER_LOST
from model_garden.contract.spec import EffectiveSpec
from model_garden_trainer.errors import TrainingError

PATIENCE_SECONDS = 10.0
"""How long the others may take to notice that one has ended, before they are killed."""
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class World:
    """All processes of a job, and which of its pods this is; the process of rank 0 leads, at ``address``:``port``."""

    nodes: int
    node_rank: int
    per_node: int
    address: str
    port: int

    @property
    def size(self) -> int:
        """How many processes there are in all pods."""
        return self.nodes * self.per_node

    def environment(self, local_rank: int) -> dict[str, str]:
        """The environment of the process of a local rank."""
        return {
            "RANK": str(self.node_rank * self.per_node + local_rank),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(self.size),
            "LOCAL_WORLD_SIZE": str(self.per_node),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


def world_of(spec: EffectiveSpec, environment: Mapping[str, str] = os.environ) -> World:
    """The world that the spec's GPUs and the operator's variables (NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT) make.

    NPROC_PER_NODE takes the place of the number of GPUs: that is how several processes train on a CPU.

    Raises:
        TrainingError: InvalidSpec for a variable that is no such number.
    """
    nodes = _number(environment, "NNODES", 1, 1)
    per_node = _number(environment, "NPROC_PER_NODE", max(1, spec.gpus), 1)
    if nodes > 1 and not environment.get("MASTER_ADDR"):
        raise TrainingError(
            "InvalidSpec", "MASTER_ADDR is not set; with NNODES above 1, set it to the host name of node 0"
        )
    port = _number(environment, "MASTER_PORT", 0, 0) or (29500 if nodes > 1 else _free_port())
    address = environment.get("MASTER_ADDR") or "127.0.0.1"
    return World(nodes, _number(environment, "NODE_RANK", 0, 0), per_node, address, port)


def run(world: World) -> Outcome:
    """Start this pod's processes, pass on signals, and wait until all have ended; the outcome that is that of all."""
    with tempfile.TemporaryDirectory(prefix="model-garden-") as folder:
        outcomes = [Path(folder) / str(local) for local in range(world.per_node)]
        processes = [_start(world, local, path) for local, path in enumerate(outcomes)]

        def pass_on(number: int, _: FrameType | None) -> None:
            for process in processes:
                process.send_signal(number)  # nothing happens to one that has ended

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pass_on)
        ended = _wait(processes)
        local, code = verdict(ended)
        reported = [parse_outcome(path.read_text() if path.exists() else None) for path in outcomes]
    return _outcome(world, local, code, reported)


def verdict(ended: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Whose ending is that of all: of an error that a retry cannot help, else of any other end but well, else of one
    that ended because another did; of several the first. If all ended well, the first process speaks.

    Args:
        ended: local rank and exit code of each, in the order in which they ended.
    """

    def weight(code: int) -> int:
        return 0 if code in NO_RETRY else 3 if code == 0 else 2 if code == WORKER_LOST else 1

    return min(ended, key=lambda one: (weight(one[1]), one[0] if one[1] == 0 else 0))


def _start(world: World, local: int, outcome: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | world.environment(local) | {TERMINATION_ENV: str(outcome)}
    environment.setdefault("OMP_NUM_THREADS", "1")
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "model_garden_trainer"],
        env=environment,
        stdout=None if local == 0 else sys.stderr.fileno(),
        process_group=0,  # Ctrl-C comes once, from here
    )


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> list[tuple[int, int]]:
    """Local rank and exit code of each process, in the order in which they ended; a killed straggler is no cause."""
    ended: dict[int, int] = {}
    deadline = None
    while len(ended) < len(processes):
        late = deadline is not None and time.monotonic() > deadline
        for local, process in enumerate(processes):
            if local in ended:
                continue
            if late:
                process.kill()
                process.wait()
                ended[local] = WORKER_LOST
            elif (code := process.poll()) is not None:
                ended[local] = code if code >= 0 else 128 - code
                if deadline is None and (code or local == 0):
                    deadline = time.monotonic() + PATIENCE_SECONDS
        time.sleep(_POLL_SECONDS)
    return list(ended.items())


def _outcome(world: World, local: int, code: int, reported: Sequence[Outcome | None]) -> Outcome:
    """The outcome of the process that counts, with the figures of this pod's first; one is made if it wrote none."""
    outcome, first = reported[local], reported[0]
    if outcome is None or outcome.exit_code != code:
        rank = world.node_rank * world.per_node + local
        how = f"was killed by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
        message = f"the process of rank {rank} {how} before it could report why"
        if code == 128 + signal.SIGKILL:
            message += "; the pod may have run out of memory: raise resources.limits.memory"
        outcome = Outcome(result="Failed", exit_code=code, reason="TrainerError", message=message)
    if first is not None:
        figures = {"progress": first.progress, "checkpoint_step": first.checkpoint_step}
        outcome = outcome.model_copy(update={key: value for key, value in figures.items() if value is not None})
    if outcome.exit_code == WORKER_LOST and world.nodes == 1:  # there is no other pod that could be the cause
        outcome = outcome.model_copy(update={"exit_code": ERROR})
    return outcome


def _number(environment: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        raise TrainingError("InvalidSpec", f"{name}: {text!r} is not valid; use a whole number of at least {least}")
    return int(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
