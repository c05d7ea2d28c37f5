"""``render``: print the Kubernetes Job that the operator would create for a TrainingJob, built by the same function."""

from __future__ import annotations

from model_garden.builders.job import job as job_of
from model_garden.builders.plan import plan
from model_garden.builders.settings import Settings, from_environment
from model_garden.cli.output import CommandError, print_json, print_yaml
from model_garden.cli.spec_flags import parse_sets
from model_garden.services.manifest import read_job


def render_job(file: str, sets: list[str] | None, *, output: str, namespace: str | None) -> None:
    """Print the Job.

    Raises:
        InvalidResource: the TrainingJob breaks a rule of the spec; one line for each problem.
        CommandError: an environment variable has a wrong value.
    """
    job = read_job(file, parse_sets(sets))
    resource = job.resource(namespace or job.metadata.get("namespace") or "default")
    resource["metadata"]["uid"] = ""  # the API server assigns it
    settings = _settings()
    rendered = job_of(plan(resource, settings), settings)
    del rendered["metadata"]["ownerReferences"]  # the TrainingJob does not exist yet
    (print_json if output == "json" else print_yaml)(rendered)


def _settings() -> Settings:
    """The operator's settings from ``MODEL_GARDEN_*`` variables, with the defaults of the Helm chart."""
    try:
        settings = from_environment()
    except ValueError as wrong:
        raise CommandError(str(wrong).splitlines()) from wrong
    claims = {
        "data_claim": settings.data_claim or "model-garden-data",
        "models_claim": settings.models_claim or "model-garden-models",
        "cache_claim": settings.cache_claim or "model-garden-cache",
    }
    return settings.model_copy(update=claims)
