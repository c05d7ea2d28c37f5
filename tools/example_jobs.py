"""TrainingJobs with the statuses that an operator writes, for screenshots and for measuring pages with many jobs."""

from __future__ import annotations

import base64
import io
import json
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image

from model_garden.contract.defaults import effective_spec
from model_garden.contract.names import API_VERSION, KIND
from model_garden.contract.progress import SampleAnswer, SampleEvent, event_line
from model_garden.contract.resource import parse_spec

Object = dict[str, Any]
NOW = datetime.now(UTC)
VISION = "Qwen/Qwen2.5-VL-7B-Instruct"
TEXT = "Qwen/Qwen2.5-7B-Instruct"
PARTS = (
    ("weights", 4.1, "7.6 billion parameters, most in 4 bit"),
    ("LoRA adapters", 0.4, "rank 16"),
    ("optimizer", 0.4, "AdamW in 8 bit"),
    ("activations", 7.9, "1 row of 3,400 tokens, checkpointed"),
    ("logits", 2.6, "151,936 words"),
    ("CUDA", 1.1, "context and fragments"),
)


def example_jobs(copies: int = 0) -> list[Object]:
    """One job in each interesting state, and ``copies`` more that succeeded."""
    queued = (
        "place 3 in line: couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in "
        "flavor a100, 8 more needed"
    )
    line = {"queue": {"name": "research", "workload": "job-forms-72b-train-1fcfe", "position": 3}}
    fetching = "model: 9.1 of 16.6 GiB fetched"
    return [
        _job("support-chat", TEXT, 4000, _ended("Succeeded", 360, 0.61)),
        _job("captions", VISION, 2600, {"phase": "Cancelled", **_curve(300, 70, 2.4)}),
        _job("shapes", VISION, 1500, _ended("Succeeded", 480, 0.24) | _output("shapes")),
        _job("contracts", VISION, 700, _failed()),
        _job("receipts", VISION, 190, _running()),
        _job("charts-qa", "Qwen/Qwen3-VL-8B-Instruct", 64, _says("Preparing", fetching) | _preflight(fetching)),
        _job("forms-72b", "Qwen/Qwen2.5-VL-72B-Instruct", 22, _says("Queued", queued) | line),
        *(_job(f"sweep-{number}", TEXT, 5000 + number, _ended("Succeeded", 300, 0.5)) for number in range(copies)),
    ]


def example_log(job: Object, data: Path) -> list[str]:
    """The lines that the trainer of a job wrote."""
    lines = [f"dataset: {job['spec']['datasetPath']}", f"model: {job['spec']['baseModel']}", "training"]
    for point in job["status"].get("history") or ():
        lines.append(
            f"step {point['step']}/480  loss {point['loss']:.4f}  learningRate {point['learningRate']:.2e}  2.31 s/step"
        )
    failure = job["status"].get("failure")
    return [*lines, *(failure["logTail"] if failure else ()), *(event_line(one) for one in _answers(data))]


def _answers(data: Path) -> list[SampleEvent]:
    rows = [json.loads(line) for line in (data / "vision_test_dataset.jsonl").read_text().splitlines()]
    found = []
    for number, row in enumerate(rows[:4], 1):
        image = next(data.glob(f"**/{Path(row['image']).name}"))
        question, answer = row["text"], row["response"]
        found.append(
            SampleEvent(
                sample=SampleAnswer(
                    split="validation" if number < 3 else "train",
                    row=f"data/shapes.jsonl row {number}",
                    question=question,
                    expected=answer,
                    before="The image shows a simple geometric figure.",
                    after=answer,
                    similarity_before=0.31,
                    similarity_after=1.0,
                    thumbnail=_thumbnail(image),
                )
            )
        )
    return found


def _thumbnail(file: Path) -> str:
    with Image.open(file) as image:
        small = image.convert("RGB")
    small.thumbnail((160, 160))
    stream = io.BytesIO()
    small.save(stream, "JPEG")
    return base64.b64encode(stream.getvalue()).decode()


def _time(minutes_ago: float) -> str:
    return (NOW - timedelta(minutes=minutes_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _job(name: str, model: str, minutes_ago: float, status: Object) -> Object:
    spec = {
        "baseModel": model,
        "datasetPath": f"./data/{name}.jsonl",
        "modelType": "vision" if "VL" in model else "text",
        "validationFraction": 0.1,
    }
    effective = effective_spec(parse_spec(spec), name).to_dict()
    metadata = {"name": name, "creationTimestamp": _time(minutes_ago)}
    dataset = {"rows": 3840, "validationRows": 426, "images": 4266}
    more = {"effectiveSpec": effective | {"backend": "unsloth"}, "dataset": dataset}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec, "status": more | status}


def _says(phase: str, message: str) -> Object:
    condition = {"type": "Running", "status": "False", "reason": phase, "message": message}
    return {"phase": phase, "conditions": [condition | {"lastTransitionTime": _time(1)}]}


def _curve(total: int, done: int, last: float) -> Object:
    """A loss that falls from 3.1 to ``last``, with noise that is the same each time."""
    noise = random.Random(total)
    history = []
    for number, step in enumerate(sorted({round(1 + number * (done - 1) / 59) for number in range(60)})):
        fallen = math.exp(-4 * step / total)
        point: Object = {
            "step": step,
            "loss": round(last + (3.1 - last) * fallen + noise.gauss(0, 0.05), 4),
            "learningRate": 2e-5 * min(1, step / 20) * (0.5 + 0.5 * math.cos(math.pi * step / total)),
            "gradNorm": round(0.4 + 1.4 * fallen + abs(noise.gauss(0, 0.12)), 3),
            "tokensPerSecond": round(5800 + noise.gauss(0, 160)),
        }
        if number % 8 == 7:
            point["evalLoss"] = round(last + 0.1 + (3.0 - last) * fallen, 4)
            if number % 16 == 15:
                point["metrics"] = {
                    "eval_exact_match": round(0.81 * (1 - fallen), 2),
                    "eval_json_fields_f1": round(0.38 + 0.57 * (1 - fallen), 3),
                }
        history.append(point)
    progress = {
        "step": done,
        "totalSteps": total,
        "epoch": round(done / total, 2),
        **{key: history[-1][key] for key in ("loss", "learningRate", "gradNorm", "tokensPerSecond")},
        "secondsPerStep": 2.31,
        "dataSeconds": 0.07,
        "forwardSeconds": 0.74,
        "backwardSeconds": 1.38,
        "optimizerSeconds": 0.09,
        "answeringSeconds": 0.34,
        "gpuMemoryGiB": 17.2,
    }
    return {"history": history, "progress": progress, "estimate": _estimate()}


def _estimate() -> Object:
    total = sum(size for _, size, _ in PARTS)
    return {
        "memory": "GPU",
        "parts": [
            {"name": name, "sizeGiB": size, "minGiB": size, "maxGiB": size, "detail": detail}
            for name, size, detail in PARTS
        ],
        "totalGiB": total,
        "minGiB": total - 2,
        "maxGiB": total + 3,
        "smallestGpu": 24,
    }


def _stage(pod: str, stage: str, minutes_ago: float, seconds: float, detail: str | None = None) -> Object:
    return {"pod": pod, "stage": stage, "enteredTime": _time(minutes_ago), "seconds": seconds, "detail": detail}


def _preflight(detail: str) -> Object:
    pod = "charts-qa-preflight-p6x2k"
    return {"stages": [_stage(pod, "dataset", 6, 48, "3,840 rows"), _stage(pod, "model", 5, 0, detail)]}


def _attempt(pod: str, minutes_ago: float, steps: tuple[int, int], **more: Any) -> Object:
    return {
        "pod": pod,
        "node": "gpu-node-3",
        "startTime": _time(minutes_ago),
        "fromStep": steps[0],
        "toStep": steps[1],
        **more,
    }


def _run(name: str, minutes_ago: float) -> Object:
    return {
        "startTime": _time(minutes_ago - 9),
        "preflightCompletionTime": _time(minutes_ago - 6),
        "checkpointSteps": [50, 100, 150, 200, 250],
        "lastCheckpointStep": 250,
        "podName": f"{name}-train-2",
    }


def _running() -> Object:
    pod = "receipts-train-2"
    preempted = {"reason": "Preempted", "endTime": _time(95), "message": "a job of higher priority took the node"}
    warnings = [
        ("row 2118: the image is larger than maxPixels and was made smaller", 37),
        ("step 61: the loss is nan and the gradient norm nan; update skipped", 2),
    ]
    return {
        **_says("Running", "training"),
        **_curve(480, 291, 0.31),
        **_run("receipts", 190),
        "attempts": [
            _attempt("receipts-train-1", 181, (0, 162), **preempted),
            _attempt(pod, 88, (150, 291)),
        ],
        "stages": [
            _stage("receipts-preflight-8f2xq", "dataset", 189, 62, "4,266 rows, 4,266 images"),
            _stage("receipts-preflight-8f2xq", "model", 188, 118, "16.6 GiB fetched"),
            _stage(pod, "dataset", 88, 14),
            _stage(pod, "model", 87, 71),
            _stage(pod, "evaluating", 10, 312),
            _stage(pod, "training", 8, 4412),
        ],
        "warnings": [{"message": text, "count": count, "lastTime": _time(9)} for text, count in warnings],
    }


def _ended(phase: str, steps: int, last: float) -> Object:
    attempt = _attempt("train-1", 400, (0, steps), reason="Completed", endTime=_time(300))
    ended = {"phase": phase, "startTime": _time(400), "completionTime": _time(300), "attempts": [attempt]}
    return ended | _curve(steps, steps, last) | {"checkpointSteps": [step for step in (100, 200, 300) if step < steps]}


def _output(name: str) -> Object:
    times = (("dataset", 13), ("model", 74), ("training", 4380), ("evaluating", 321), ("saving", 6), ("verifying", 96))
    scores = {"rows": 10, "exactMatchBefore": 0.1, "similarityBefore": 0.42}
    return {
        "evaluation": {
            "rows": 100,
            "totalRows": 474,
            "datasetPath": f"./data/{name}-test.jsonl",
            "path": f"./models/{name}/evaluation.jsonl",
            "completionTime": _time(301),
            "scores": [
                _score("exact_match", 0.04, 0.81),
                _score("json_fields_f1", 0.382, 0.957),
                _score("json_fields_precision", 0.411, 0.958),
                _score("json_fields_recall", 0.357, 0.956),
                _score("json_fields_invalid", 0.23, 0.0),
                *(
                    _score("json_fields_accuracy", base, value, field)
                    for field, base, value in (
                        ("items.price", 0.31, 0.95),
                        ("number", 0.6, 0.99),
                        ("total", 0.42, 0.96),
                    )
                ),
            ],
        },
        "stages": [_stage("train-1", stage, 300 + 10 - number, spent) for number, (stage, spent) in enumerate(times)],
        "output": {
            "path": f"./models/{name}",
            "adapterPath": f"./models/{name}",
            "mergedPath": f"./models/{name}/merged",
            "sizeBytes": 16_900_000_000,
            "verified": True,
            "trackers": [
                {"name": "mlflow", "url": f"https://mlflow.example.com/#/experiments/1/runs/{name}"},
                {"name": "tensorboard", "path": f"./models/{name}/runs"},
            ],
            "samples": {
                "train": scores | {"exactMatchAfter": 0.9, "similarityAfter": 0.97},
                "validation": scores | {"exactMatchAfter": 0.8, "similarityAfter": 0.94},
            },
        },
    }


def _score(metric: str, base: float, value: float, field: str | None = None) -> Object:
    return {"metric": metric, "baseValue": base, "value": value} | ({"field": field} if field else {})


def _failed() -> Object:
    message = (
        "the GPU's 24 GiB were not enough for a row of 5,102 tokens at step 37, even with a batch of 1; "
        "lower imageOptions.maxPixels (1,003,520) or hyperparameters.maxSeqLength, or choose quantization: 4bit"
    )
    tail = [
        "step 36/480  loss 1.9921  learningRate 2.00e-05  2.40 s/step",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.18 GiB. GPU 0 has 23.64 GiB in total",
    ]
    failure = {"reason": "OutOfMemory", "message": message, "exitCode": 5, "logTail": tail}
    ended = {"reason": "Error", "endTime": _time(640), "exitCode": 5}
    return {
        "phase": "Failed",
        **_curve(480, 36, 1.9),
        "startTime": _time(660),
        "preflightCompletionTime": _time(668),
        "completionTime": _time(640),
        "podName": "contracts-train-1",
        "attempts": [_attempt("contracts-train-1", 660, (0, 36), **ended)],
        "stages": [_stage("contracts-train-1", "model", 660, 71), _stage("contracts-train-1", "training", 658, 0)],
        "failure": failure,
    }
