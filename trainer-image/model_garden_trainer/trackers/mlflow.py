"""MLflow: an experiment for the project, a run for the job."""

from __future__ import annotations

import os
from typing import Any

from model_garden_trainer.trackers.points import Point
from model_garden_trainer.trackers.state import State
from model_garden_trainer.trackers.tracked_run import TIMEOUT_SECONDS, Result, TrackedRun

PACKAGE = "mlflow-skinny"
URI_ENV = "MLFLOW_TRACKING_URI"
_PARAMETER_CHARACTERS = 500  # servers before MLflow 2.8 refuse longer values
_PARAMETERS, _METRICS = 100, 1000  # of one request: mlflow.utils.validation
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MlflowWriter:
    """Writes to one run of MLflow."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._id = client, run_id

    def write(self, points: list[Point]) -> None:
        """Send the points; the server keeps a point once that it got twice."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, int(point.seconds * 1000), point.step)
            for point in points
            for name, value in point.figures.items()
        ]
        for first in range(0, len(metrics), _METRICS):
            self._client.log_batch(self._id, metrics=metrics[first : first + _METRICS])

    def end(self, result: Result) -> None:
        """Set the run's status."""
        self._client.set_terminated(self._id, _STATUS[result])


def start(run: TrackedRun, state: State) -> MlflowWriter:
    """Create the run, or continue that of ``state``."""
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(TIMEOUT_SECONDS)}
    for name, value in limits.items():  # the library retries for four minutes, and this process retries by itself
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    uri = run.uri or os.environ[URI_ENV]
    client = MlflowClient(uri)
    if state.id is None:
        found = client.get_experiment_by_name(run.project)
        experiment = found.experiment_id if found else client.create_experiment(run.project)
        state.id = client.create_run(experiment, run_name=run.name, tags={"model-garden.dev/job": run.job}).info.run_id
        _log_parameters(client, state.id, run.parameters)
    client.update_run(state.id, status="RUNNING")
    if uri.startswith("http"):
        experiment = client.get_run(state.id).info.experiment_id
        state.url = f"{uri.rstrip('/')}/#/experiments/{experiment}/runs/{state.id}"
    return MlflowWriter(client, state.id)


def _log_parameters(client: Any, run_id: str, parameters: dict[str, str]) -> None:
    from mlflow.entities import Param

    found = [Param(name, value[:_PARAMETER_CHARACTERS]) for name, value in parameters.items()]
    for first in range(0, len(found), _PARAMETERS):
        client.log_batch(run_id, params=found[first : first + _PARAMETERS])
