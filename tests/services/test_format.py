"""Figures in words."""

from datetime import UTC, datetime

import pytest

from model_garden.services import format
from model_garden.services.submission import again, next_name

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (8.4, "8s"), (59.6, "1m"), (125, "2m 5s"), (3600, "1h"), (11_520, "3h 12m"), (352_800, "4d 2h")],
)
def test_durations(seconds: float, said: str) -> None:
    assert format.duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"), [(None, ""), (512, "512 B"), (12_902_400, "12.3 MiB"), (5 * 1024**4, "5.0 TiB")]
)
def test_sizes(count: float | None, said: str) -> None:
    assert format.size(count) == said


def test_a_curve_goes_from_high_to_low() -> None:
    assert format.sparkline([3.0, 2.0, 1.0], 10) == "█▅▁" or format.sparkline([3.0, 2.0, 1.0], 10) == "█▄▁"


def test_a_long_curve_keeps_its_ends() -> None:
    curve = format.sparkline([float(value) for value in range(1000, 0, -1)], 8)
    assert (len(curve), curve[0], curve[-1]) == (8, "█", "▁")


@pytest.mark.parametrize("values", [[], [1.0]])
def test_no_curve_of_a_point(values: list[float]) -> None:
    assert format.sparkline(values, 8) == ""


def test_a_flat_curve() -> None:
    assert format.sparkline([2.0, 2.0, 2.0], 8) == "▁▁▁"


def test_time_left_is_the_trainers_estimate_else_by_pace() -> None:
    progress = {"step": 10, "totalSteps": 30, "secondsPerStep": 1.5}
    assert format.seconds_left(progress) == 30
    assert format.seconds_left(progress | {"estimatedCompletionTime": "2026-01-01T12:01:00Z"}, NOW) == 60


def test_a_step_in_a_line() -> None:
    line = format.step_line({"step": 12, "totalSteps": 30, "loss": 2.3, "learningRate": 1.8e-5, "secondsPerStep": 1.5})
    assert line == "step 12/30 (40%)  loss 2.3000  lr 1.8e-05  1.50 s/step  27s left"


@pytest.mark.parametrize(("step", "percent"), [(0, 0), (1, 0), (199, 99), (200, 100)])
def test_only_the_last_step_is_100_percent(step: int, percent: int) -> None:
    progress = {"step": step, "totalSteps": 200}
    assert format.percent(progress) == percent
    assert format.step_line(progress) == f"step {step}/200 ({percent}%)"


def test_an_estimate_in_a_line() -> None:
    estimate = {"totalGiB": 6.04, "minGiB": 5.2, "maxGiB": 8.0, "smallestGpu": 16}
    assert format.memory_line(estimate) == "6.0 GiB, between 5.2 and 8.0; fits a GPU of 16 GB"


@pytest.mark.parametrize(
    ("name", "taken", "following"),
    [
        ("receipts", [], "receipts-2"),
        ("receipts-2", ["receipts", "receipts-2"], "receipts-3"),
        ("a", ["a-2", "a-3"], "a-4"),
    ],
)
def test_the_next_name_is_free(name: str, taken: list[str], following: str) -> None:
    assert next_name(name, taken) == following


def test_a_rerun_does_not_write_over_the_first_output() -> None:
    old = {"metadata": {"name": "a"}, "spec": {"baseModel": "x/y", "datasetPath": "./data/d.jsonl", "suspend": True}}
    assert again(old, "a-2", {}).spec.output_dir is None
    assert again(old, "a-2", {}).spec.suspend is None
    old["spec"] |= {"outputDir": "./models/deep/a"}
    assert again(old, "a-2", {}).spec.output_dir == "./models/deep/a-2"
    assert again(old, "a-2", {"outputDir": "./models/b"}).spec.output_dir == "./models/b"


def test_answers_before_and_after_training() -> None:
    scored = {"rows": 4, "exactMatchBefore": 0.0, "exactMatchAfter": 0.75}
    scored |= {"similarityBefore": 0.146, "similarityAfter": 0.9}
    line = "4 answered before and after training: exact 0% → 75%, similarity 0.15 → 0.90"
    assert format.sample_rows({"train": scored}) == [("training rows", line)]
    both = format.sample_rows({"train": scored, "validation": scored | {"rows": 2}})
    assert both == [("training rows", line), ("validation rows", line.replace("4", "2", 1))]
    assert format.sample_rows({}) == []


def test_the_scores_of_an_evaluation() -> None:
    scores = [
        {"metric": "json_fields_f1", "value": 0.957, "baseValue": 0.38},
        {"metric": "json_fields_accuracy", "field": "total", "value": 0.5},
    ]
    found = {"rows": 40, "totalRows": 1200, "datasetPath": "./data/a.jsonl", "path": "./m/b.jsonl", "scores": scores}
    assert format.evaluation_line(found) == "40 rows answered: json_fields_f1 0.38 → 0.96"
    assert format.evaluation_rows(found) == [
        ("evaluation", "40 of 1,200 rows of ./data/a.jsonl answered; answers in ./m/b.jsonl"),
        ("", "json_fields_f1 0.38 → 0.96"),
        ("", "json_fields_accuracy of total 0.50"),
    ]
    tasks = {"scores": [{"task": "hellaswag", "metric": "acc", "value": 0.31, "baseValue": 0.3}]}
    assert format.evaluation_line(tasks) == "hellaswag: acc 0.30 → 0.31"
    assert format.evaluation_rows(tasks)[0] == ("evaluation", "tasks of lm-evaluation-harness")


def test_a_gguf_file_is_loaded_by_llama_cpp() -> None:
    made = {"path": "./models/a", "ggufPath": "./models/a/a-q4_k_m.gguf"}
    assert format.load_hint(made, vision=False) == "llama-cli -m ./models/a/a-q4_k_m.gguf"
    seeing = "llama-mtmd-cli -m ./models/a/a-q4_k_m.gguf --mmproj ./models/a/mmproj-*.gguf"
    assert format.load_hint(made, vision=True) == seeing


def test_the_rows_of_an_output_say_which_steps_weights_it_has_where_they_were_chosen() -> None:
    made = {"path": "m", "trainedSteps": 500}
    chosen = made | {"bestStep": 300, "bestEvalLoss": 0.25}
    assert ("weights", "of step 300 of 500, the lowest validation loss (0.2500)") in format.output_rows(
        chosen, vision=False
    )
    assert "weights" not in dict(format.output_rows(made, vision=False))
