"""Processes that train one model together, as one of them sees it: who leads, and what all have to agree on.

Every process runs the whole of ``run.train``. The first, rank 0, leads: it alone checks rows, reports, writes and
exports. What the others need of it goes through a store that it keeps (``share``), gradients and small figures through
the process group (NCCL on GPUs, gloo on CPUs). Alone, a ``ProcessGroup`` is one process and costs nothing.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from model_garden.contract.options import EffectiveHealth
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import log

T = TypeVar("T")

_CONNECT_SECONDS = 5.0
_POLL_SECONDS = 0.1
_DISMISSED = "dismissed"
_LEFT = "left"
_LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")


@dataclass
class ProcessGroup:
    """The processes of a job. All of them call its methods at the same places, in the same order."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    per_node: int = 1
    store: Any = None
    _shared: int = field(default=0, init=False)

    @property
    def leader(self) -> bool:
        """Whether this is the process that speaks and writes for all."""
        return self.rank == 0

    def share(self, make: Callable[[], T]) -> T:
        """What ``make`` returns in the leader; the others wait for it, however long it takes.

        An error of ``make`` ends the leader, and so the others.
        """
        if self.size == 1:
            return make()
        self._shared += 1
        key = f"shared/{self._shared}"
        if self.leader:
            value = make()
            self.store.set(key, pickle.dumps(value))
            return value
        self._wait_for(key)
        shared: T = pickle.loads(self.store.get(key))
        return shared

    def main_process_first(self, do: Callable[[], T]) -> T:
        """What ``do`` returns in each, once it was done in the leader: a model that it fetched is there for the others
        where they share a cache."""
        if self.leader:
            done = do()
            self.share(lambda: None)
            return done
        self.share(lambda: None)
        return do()

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sums of the processes' values, the same in each."""
        if self.size == 1:
            return list(values)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        result: list[float] = tensor.tolist()
        return result

    def gather(self, value: T) -> list[T]:
        """The processes' values, in their order and the same in each."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether it is set in any process."""
        return [total > 0 for total in self.sums([float(flag) for flag in flags])]

    def all(self, flag: bool) -> bool:
        """Whether a flag is set in every process."""
        return not self.any(not flag)[0]

    def barrier(self) -> None:
        """Wait until all are here."""
        self.sums([0.0])

    def release_workers(self) -> None:
        """By the leader, when everything is written: the first process of each other pod may end, and is waited for."""
        others = self.size // self.per_node - 1
        if others:
            self.store.set(_DISMISSED, "1")
            deadline = time.monotonic() + 30
            while self.store.add(_LEFT, 0) < others and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)

    def wait_for_release(self) -> None:
        """By the others, when training is done. The first of its pod stays until the leader has written everything: a
        pod that had ended could not come back to train on, should the leader fail. The rest may go, and free a GPU."""
        if self.local_rank == 0:
            self._wait_for(_DISMISSED)
            self.store.add(_LEFT, 1)

    def _wait_for(self, key: str) -> None:
        """Wait in Python, where signals are heard."""
        while not self.store.check([key]):
            time.sleep(_POLL_SECONDS)


def processes() -> int:
    """How many processes train together, from the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is; 0 leads."""
    return int(os.environ.get("RANK", "0"))


def join(health: EffectiveHealth) -> ProcessGroup:
    """Meet the other processes that the environment names; a team of one where it names none.

    Args:
        health: all are waited for as long as for the first step; and one that does not answer for longer than any step
            may take counts as lost, if the watchdog has not ended it before.

    Raises:
        TrainingError: InvalidSpec where there are fewer GPUs than processes; StepTimeout where not all came;
            TrainerError if they connected but cannot communicate.
    """
    size = processes()
    if size == 1:
        return ProcessGroup()
    own_rank, local, per_node = rank(), int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    first_seconds, step_seconds = health.first_step_seconds, health.step_seconds
    gpus = torch.cuda.device_count()
    if gpus:
        if gpus < per_node:
            raise TrainingError(
                "InvalidSpec",
                f"spec.resources: {per_node} processes need one GPU each, but this machine has {gpus} visible GPUs; "
                f"request {gpus} in resources.limits nvidia.com/gpu",
            )
        torch.cuda.set_device(local)
    else:
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")  # else "cpu:0", on which no optimizer's state loads
    store = _meet(own_rank, size, time.monotonic() + first_seconds)
    team = ProcessGroup(own_rank, size, local, per_node, store)
    try:
        dist.init_process_group(
            "nccl" if gpus else "gloo",
            store=dist.PrefixStore("group", store),
            rank=own_rank,
            world_size=size,
            timeout=timedelta(seconds=max(first_seconds, step_seconds) + 60),
        )
        team.barrier()
    except RuntimeError as error:
        raise TrainingError(
            "TrainerError",
            f"the {size} processes connected but cannot communicate ({str(error).splitlines()[0]}); check the network "
            "between the nodes (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME)",
        ) from error
    log(f"{size} processes train together")
    return team


def peer_lost(error: BaseException) -> bool:
    """Whether an error means that another process is gone or does not answer."""
    if not dist.is_initialized():
        return False
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST)
    )


def _meet(rank: int, size: int, deadline: float) -> Any:
    """The leader's store, once all have come to it. It may be long in coming, or end and come again meanwhile.

    One whose place is taken has found the team of its predecessor, which has not noticed its end yet, and waits for it
    to break up.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    everyone = [f"joined/{number}" for number in range(size)]
    why = ""
    while time.monotonic() < deadline:
        try:
            store = dist.TCPStore(
                address,
                port,
                is_master=rank == 0,
                wait_for_workers=False,
                timeout=timedelta(seconds=_CONNECT_SECONDS),
            )
            if store.add(everyone[rank], 1) == 1:
                while time.monotonic() < deadline:
                    if store.check(everyone):
                        return store
                    time.sleep(_POLL_SECONDS)
                break
        except dist.DistError as error:
            why = f" ({str(error).splitlines()[0]})"
        time.sleep(1.0)
    raise TrainingError(
        "StepTimeout",
        f"not all {size} processes of the job connected to {address}:{port} in time{why}; check that all pods of the "
        "job run; if they start at very different times, raise health.firstStepSeconds",
    )
