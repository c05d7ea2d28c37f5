"""The operator's settings, from ``MODEL_GARDEN_*`` environment variables; read once, at the start."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from model_garden import __version__

LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class Settings:
    """Each field is the variable ``MODEL_GARDEN_`` + its name in capitals, but for the pod's own name and namespace.

    Attributes:
        trainer_image: image of the training container unless a job names another.
        trainer_command: its command; another one is for images with a trainer of their own.
        data_claim: PersistentVolumeClaim of the data sets unless a job names another; none when empty.
        models_claim: the same for what training writes.
        cache_claim: the same for downloaded models.
        progress_seconds: at least this long between two progress patches of one job.
        missing_seconds: how long a job waits for something that is missing (a claim, a Secret) before it fails.
        resync_seconds: an unfinished job is looked at this often even if nothing happens.
        namespaces: where TrainingJobs are served; all namespaces when empty.
        workers: jobs reconciled at the same time.
        port: of ``/metrics``.
        health_port: of ``/healthz``.
        leader_election: whether a Lease decides which of several replicas works.
        log_format: ``text`` or ``json``.
        log_level: a level's name.
        pod_name: this replica, from ``POD_NAME``.
        pod_namespace: where its Lease is, from ``POD_NAMESPACE``.
        pod_ip: the address that ``/healthz`` listens on, from ``POD_IP``; all IPv4 addresses if that is unset.
    """

    trainer_image: str = f"model-garden/trainer:{__version__}"
    trainer_command: tuple[str, ...] = ("python", "-m", "model_garden_trainer")
    data_claim: str = ""
    models_claim: str = ""
    cache_claim: str = ""
    progress_seconds: float = 10.0
    missing_seconds: float = 300.0
    resync_seconds: float = 180.0
    namespaces: tuple[str, ...] = ()
    workers: int = 16
    port: int = 8080
    health_port: int = 8081
    leader_election: bool = False
    log_format: LogFormat = "text"
    log_level: str = "INFO"
    pod_name: str = "operator"
    pod_namespace: str = "default"
    pod_ip: str = "0.0.0.0"

    def liveness_endpoint(self) -> str:
        """The URL that kopf serves ``/healthz`` at."""
        host = f"[{self.pod_ip}]" if ":" in self.pod_ip else self.pod_ip
        return f"http://{host}:{self.health_port}/healthz"


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings; a variable that is empty or unset leaves its default.

    Raises:
        ValueError: one line for each variable that cannot be read, with what it takes.
    """
    given: dict[str, Any] = {
        "pod_name": environment.get("POD_NAME") or socket.gethostname(),
        "pod_namespace": environment.get("POD_NAMESPACE") or "default",
        "pod_ip": environment.get("POD_IP") or "0.0.0.0",
    }
    problems = []
    for field, (read, wanted) in _READERS.items():
        variable = f"MODEL_GARDEN_{field.upper()}"
        if text := environment.get(variable, "").strip():
            try:
                given[field] = read(text)
            except ValueError:
                problems.append(f"{variable}: {text!r} is not {wanted}")
    if problems:
        raise ValueError("\n".join(problems))
    return Settings(**given)


def _positive(text: str) -> float:
    if not 0 < (value := float(text)) < 1e9:
        raise ValueError
    return value


def _count(text: str) -> int:
    if not 0 < (value := int(text)) < 65_536:
        raise ValueError
    return value


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _command(text: str) -> tuple[str, ...]:
    value = json.loads(text)
    if not isinstance(value, list) or not value or not all(isinstance(part, str) for part in value):
        raise ValueError
    return tuple(value)


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError
        return text

    return read


_SECONDS = (_positive, "a number of seconds above 0")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "trainer_image": (str, "an image"),
    "trainer_command": (_command, "a JSON list of strings"),
    "data_claim": (str, "a claim's name"),
    "models_claim": (str, "a claim's name"),
    "cache_claim": (str, "a claim's name"),
    "progress_seconds": _SECONDS,
    "missing_seconds": _SECONDS,
    "resync_seconds": _SECONDS,
    "namespaces": (_names, "a comma-separated list of namespaces"),
    "workers": (_count, "a whole number from 1"),
    "port": (_count, "a port"),
    "health_port": (_count, "a port"),
    "leader_election": (_truth, "true or false"),
    "log_format": (_one_of(*get_args(LogFormat)), "text or json"),
    "log_level": (_one_of(*_LEVELS), f"one of {', '.join(_LEVELS)}"),
}
