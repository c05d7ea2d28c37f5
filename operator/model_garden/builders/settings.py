"""The operator's settings: environment variables, read once at the start."""

from __future__ import annotations

import json
import socket
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model_garden import __version__

LogFormat = Literal["text", "json"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

PREFIX = "MODEL_GARDEN_"


def _names(value: object) -> object:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


def _command(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError("must be a JSON list of strings") from error


Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Count = Annotated[int, Field(ge=1, le=65_535)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
Command = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_command), Field(min_length=1)]
HubEndpoint = Annotated[str, StringConstraints(pattern=r"^(https?://[^\s/]+(/[^\s]*)?)?$")]


def _setting(default: Any, meaning: str, chart: str) -> Any:
    """A field with the value of the Helm chart that sets it."""
    return Field(default, description=meaning, json_schema_extra={"chart": chart})


class Settings(BaseSettings):
    """Each field is the variable ``MODEL_GARDEN_`` + its name in capitals, unless an alias names the variable.

    A variable that is empty or unset leaves the default.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, str_strip_whitespace=True, frozen=True)

    trainer_image: str = _setting(
        f"model-garden/trainer:{__version__}",
        "Image of the training container, unless `spec.image` names another.",
        "trainer.image",
    )
    trainer_image_pull_secrets: Names = _setting(
        (),
        "Secrets for pulling it, separated by commas, in the namespace of each job. Not for jobs that name Secrets in "
        "`spec.podTemplate.imagePullSecrets`.",
        "trainer.imagePullSecrets",
    )
    trainer_command: Command = _setting(
        ("python", "-m", "model_garden_trainer"),
        "Command of the training container, as a JSON list. Change it for an image with a trainer of its own.",
        "trainer.command",
    )
    data_claim: str = _setting(
        "", "PersistentVolumeClaim of data sets, unless `spec.storage.dataClaim` names another.", "storage.dataClaim"
    )
    models_claim: str = _setting(
        "", "PersistentVolumeClaim of outputs, unless `spec.storage.modelsClaim` names another.", "storage.modelsClaim"
    )
    cache_claim: str = _setting(
        "",
        "PersistentVolumeClaim of downloaded models, unless `spec.storage.cacheClaim` names another.",
        "storage.cacheClaim",
    )
    hub_endpoint: HubEndpoint = _setting(
        "",
        "Address of a mirror of the Hugging Face Hub, which trainers use as `HF_ENDPOINT`. Default: the Hub itself.",
        "hub.endpoint",
    )
    gpu_hour_price: Price = _setting(
        0.0,
        "Price of an hour of one GPU, for the cost in `status.usage`. Without one, no cost is shown.",
        "cost.gpuHour",
    )
    currency: str = _setting("USD", "Currency of the price.", "cost.currency")
    webhooks: bool = _setting(
        False,
        "Whether the webhook in the Secret `model-garden-webhook` of a namespace is told when a job there ends.",
        "webhooks.enabled",
    )
    webhook_local_addresses: bool = _setting(
        False,
        "Whether a webhook may have a loopback or link-local address, or that of a cloud's metadata service.",
        "webhooks.allowLocalAddresses",
    )
    progress_seconds: Seconds = _setting(
        10.0, "Least number of seconds between two progress updates of one job.", "progressIntervalSeconds"
    )
    missing_seconds: Seconds = _setting(
        300.0, "Seconds that a job waits for a missing claim, Secret or image before it fails.", "missingSeconds"
    )
    resync_seconds: Seconds = _setting(
        180.0,
        "Seconds between two looks at an unfinished job, and at which jobs exist, when no event arrives.",
        "resyncSeconds",
    )
    namespaces: Names = _setting(
        (),
        "Namespaces whose TrainingJobs are served, separated by commas. Without names, all are served.",
        "watchNamespaces",
    )
    workers: Count = _setting(16, "Number of jobs that are reconciled at the same time.", "workers")
    port: Port = _setting(8080, "Port of the Prometheus metrics, at `/metrics`.", "port")
    health_port: Port = _setting(8081, "Port of the health checks, at `/healthz`.", "healthPort")
    leader_election: bool = Field(
        False,
        description="Whether a Lease chooses the operator that works, of all pods that run at a time. The chart sets "
        "`true`: an upgrade starts the next pod before it ends the one that works.",
    )
    log_format: LogFormat = _setting("text", "Format of log lines: `text` or `json`.", "log.format")
    log_level: LogLevel = _setting(
        "INFO", "Lowest level of log lines: `DEBUG`, `INFO`, `WARNING` or `ERROR`.", "log.level"
    )
    otlp_endpoint: str = Field(
        "",
        description="Address of an OTLP/HTTP receiver, such as `http://collector:4318`, that gets a trace of each job "
        "that ends. These variables of OpenTelemetry apply too: `OTEL_EXPORTER_OTLP_HEADERS`, `_CERTIFICATE`, "
        "`_CLIENT_CERTIFICATE`, `_CLIENT_KEY`, `_TIMEOUT` and `_COMPRESSION`, `OTEL_SERVICE_NAME` and "
        "`OTEL_RESOURCE_ATTRIBUTES`. Default: no traces.",
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        json_schema_extra={"chart": "tracing.endpoint"},
    )
    pod_name: str = Field(
        default_factory=socket.gethostname,
        description="Name of this replica in Events and in the Lease.",
        validation_alias="POD_NAME",
    )
    pod_namespace: str = Field(
        "default",
        description="Namespace of the Lease, with `MODEL_GARDEN_LEADER_ELECTION`.",
        validation_alias="POD_NAMESPACE",
    )
    pod_ip: str = Field("0.0.0.0", description="Address that `/healthz` listens on.", validation_alias="POD_IP")

    def liveness_endpoint(self) -> str:
        """The URL that kopf serves ``/healthz`` at."""
        host = f"[{self.pod_ip}]" if ":" in self.pod_ip else self.pod_ip
        return f"http://{host}:{self.health_port}/healthz"


def from_environment() -> Settings:
    """The settings.

    Raises:
        ValueError: one line for each variable that cannot be read: the value, the rule and the fix.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise ValueError("\n".join(map(_problem, error.errors()))) from error


def variable_of(name: str, field: FieldInfo) -> str:
    """The environment variable of a field of ``Settings``."""
    return str(field.validation_alias or f"{PREFIX}{name.upper()}")


def default_words(field: FieldInfo) -> str:
    """The default of a setting as people read it."""
    if field.default_factory:
        return "the host's name"
    default = field.default
    if isinstance(default, float):
        return f"{default:g}"
    if isinstance(default, tuple):
        return json.dumps(default) if default else "none"
    return str(default).lower() if isinstance(default, bool) else str(default) or "none"


def _problem(error: ErrorDetails) -> str:
    """``{variable}: {value}; {rule}; {fix}``."""
    place = str(error["loc"][0])
    fields = {str(field.validation_alias or name): (name, field) for name, field in Settings.model_fields.items()}
    name, field = fields[place]
    rule = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be").split(", unable to")[0]
    return f"{variable_of(name, field)}: {error['input']!r}; {rule}; correct it, or unset it for {default_words(field)}"
