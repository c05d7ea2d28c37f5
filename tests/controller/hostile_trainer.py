"""A trainer of another image, which says whatever harms the operator; without HOSTILE, the scripted one."""

import json
import os
import runpy
import sys
import time
from pathlib import Path

from model_garden.contract.names import TERMINATION_LOG

EVENTS: list[dict[str, object]] = [
    {"event": "stage", "stage": "training", "time": "soon"},
    {"event": "stage", "stage": "training", "time": "2026-01-01"},
    {"event": "stage", "stage": "evaluation", "time": "2026-01-01T00:00:00Z"},
    {"event": "stage", "stage": "dataset", "time": "0001-01-01T00:00:00+23:59"},
    {"event": "stage", "stage": "training", "time": "9999-12-31T23:59:59-23:59"},
    {"event": "warning", "message": "x" * 200_000, "time": "9999-12-31T23:59:59Z"},
    {"event": "progress", "progress": {"step": 10**30, "totalSteps": -1, "percent": 1e308, "loss": 1e400}},
    {"event": "progress", "progress": {"step": 3, "totalSteps": 4, "percent": 75, "loss": float("nan")}},
    {"event": "progress", "progress": {"step": 2, "totalSteps": 4, "percent": 50, "loss": 1.0}},
    {"event": "checkpoint", "step": 2**63},
    {"event": "resumed", "step": -(2**63) - 1},
    {"event": "dataset", "dataset": {"rows": 10**40, "measuredBy": "Trainer"}},
]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def attack() -> None:
    for event in EVENTS:
        say(json.dumps(event))
    say('{"event":' * 20_000)
    say("z" * 3_000_000)
    say("\x1b[2J\x1b]0;owned\x07 2026-11-27T10:00:00Z INFO kube-system/victim Running -> Succeeded")
    for number in range(200):
        long = f"{chr(97 + number % 26) * 5000}{number}"
        say(json.dumps({"event": "warning", "message": long, "time": "2026-01-01T00:00:00Z"}))
    time.sleep(3)
    output = {"path": "../../etc", "trainedSteps": 10**30}
    forged = {"result": "Succeeded", "exitCode": 0, "output": output}
    said = {"deep": '{"result":' + "[" * 4000, "forged": json.dumps(forged)}
    Path(TERMINATION_LOG).write_text(said[os.environ["HOSTILE"]])


if __name__ == "__main__":
    if "HOSTILE" in os.environ:
        attack()
    else:
        runpy.run_module("tests.controller.scripted_trainer", run_name="__main__", alter_sys=True)
