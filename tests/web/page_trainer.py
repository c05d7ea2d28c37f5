"""A trainer for the tests of a job's page: it reports all that a page shows, for as many steps as the job has.

A job whose name begins with ``failing`` fails at its fifth step.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

PIXEL = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
    "AQEBAQEBAQH/wAALCAABAAEBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQR"
    "BRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4"
    "eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEB"
    "AAA/APn+v//Z"
)
"""A JPEG of one pixel."""
ANSWERS = {"expected": "a circle", "before": "nothing", "after": "a circle"}
SCORES = {"rows": 2, "exactMatchBefore": 0, "exactMatchAfter": 1, "similarityBefore": 0.1, "similarityAfter": 1}
SECONDS = {"secondsPerStep": 2, "dataSeconds": 0.5, "forwardSeconds": 0.5, "backwardSeconds": 0.9}

config = json.loads(os.environ["MODEL_GARDEN_CONFIG"])
name, steps = config["name"], config["spec"]["hyperparameters"]["maxSteps"]
wish: list[str] = []


def tell(event: str, **more: Any) -> None:
    print(json.dumps({"event": event, **more}), flush=True)


def stage(stage: str, **more: Any) -> None:
    tell("stage", stage=stage, time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **more)


def end(result: str, code: int, **more: Any) -> NoReturn:
    outcome = {"result": result, "exitCode": code, **more}
    Path(os.environ["MODEL_GARDEN_TERMINATION_LOG"]).write_text(json.dumps(outcome))
    sys.exit(code)


def train() -> int:
    step = 0
    while step < steps and not wish:
        if Path(os.environ["MODEL_GARDEN_ANNOTATIONS"]).exists():
            wish.append("save")
        time.sleep(0.05)
        step += 1
        figures = {"step": step, "totalSteps": steps, "loss": 4 / step, "learningRate": 1e-4, "gradNorm": 1.0}
        if name.startswith("prefers"):
            figures["metrics"] = {"rewards/margins": step / 10, "rewards/accuracies": min(1.0, 0.5 + step / 50)}
        tell("progress", progress=figures | SECONDS | {"tokensPerSecond": 900})
        if step == 3:
            tell("warning", message="row 7 is cut", time="2026-01-01T00:00:00Z")
        if step == 5:
            tell("checkpoint", step=5)
            if name.startswith("failing"):
                print("Traceback: scripted failure", flush=True)
                end("Failed", 3, message="row 7: it was told to fail")
    return step


signal.signal(signal.SIGTERM, lambda *_: wish.append("stop"))
folder = Path("models") / name
folder.mkdir(parents=True, exist_ok=True)
stage("dataset", detail="10 rows")
stage("training")
print("a line for people", flush=True)
trained = train()
if "stop" in wish:
    end("Stopped", 143)
stage("verifying")
for number in range(2):
    scored = {"split": "train", "similarityBefore": 0.1, "similarityAfter": 1.0, "thumbnail": PIXEL}
    row = {"row": f"rows.jsonl row {number}", "question": "What is <b>it</b>?"}
    tell("sample", sample=row | ANSWERS | scored)
scores = [{"metric": "json_fields_f1", "value": 0.957, "baseValue": 0.382}]
scores += [{"metric": "json_fields_accuracy", "field": "total.amount", "value": 0.9, "baseValue": 0.1}]
scores += [{"task": "hellaswag", "metric": "acc", "value": 0.31, "baseValue": 0.3, "standardError": 0.01}]
tell("evaluation", evaluation={"rows": 40, "totalRows": 200, "datasetPath": "./data/held.jsonl", "scores": scores})
(folder / "adapter_config.json").write_text("{}")
path = f"./models/{name}"
output = {"path": path, "adapterPath": path, "trainedSteps": trained, "verified": True, "samples": {"train": SCORES}}
end("Succeeded", 0, output=output, stoppedEarly="save" in wish)
