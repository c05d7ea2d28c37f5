"""The operator's settings."""

import os

import pytest

from model_garden.builders.settings import from_environment


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("MODEL_GARDEN_", "POD_")):
            monkeypatch.delenv(name)


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = from_environment()
    assert settings.trainer_command == ("python", "-m", "model_garden_trainer")
    assert settings.namespaces == ()
    assert settings.progress_seconds == 10


def test_an_empty_value_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before = from_environment()
    for name in ("DATA_CLAIM", "NAMESPACES", "WORKERS", "TRAINER_COMMAND"):
        monkeypatch.setenv(f"MODEL_GARDEN_{name}", "")
    assert from_environment() == before


def test_every_kind_of_value_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "MODEL_GARDEN_TRAINER_IMAGE": "registry/trainer:1",
        "MODEL_GARDEN_TRAINER_COMMAND": '["python", "x.py"]',
        "MODEL_GARDEN_NAMESPACES": "a, b",
        "MODEL_GARDEN_PROGRESS_SECONDS": "2.5",
        "MODEL_GARDEN_LEADER_ELECTION": "true",
        "MODEL_GARDEN_LOG_FORMAT": "json",
        "POD_NAME": "operator-0",
        "POD_IP": "fd00::7",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = from_environment()
    assert settings.trainer_command == ("python", "x.py")
    assert settings.namespaces == ("a", "b")
    assert settings.progress_seconds == 2.5
    assert settings.leader_election
    assert settings.pod_name == "operator-0"
    assert settings.liveness_endpoint() == "http://[fd00::7]:8081/healthz"


@pytest.mark.parametrize(
    ("name", "value", "rule", "default"),
    [
        ("PROGRESS_SECONDS", "soon", "must be a valid number", "10"),
        ("MISSING_SECONDS", "0", "must be greater than 0", "300"),
        ("RESYNC_SECONDS", "nan", "must be a finite number", "180"),
        (
            "TRAINER_COMMAND",
            "python x.py",
            "must be a JSON list of strings",
            '["python", "-m", "model_garden_trainer"]',
        ),
        ("LOG_FORMAT", "xml", "must be 'text' or 'json'", "text"),
        ("LEADER_ELECTION", "maybe", "must be a valid boolean", "false"),
        ("WORKERS", "1.5", "must be a valid integer", "16"),
        (
            "HUB_ENDPOINT",
            "hub.example.com",
            r"String should match pattern '^(https?://[^\s/]+(/[^\s]*)?)?$'",
            "none",
        ),
        ("PORT", "70000", "must be less than or equal to 65535", "8080"),
    ],
)
def test_a_bad_value_is_named_with_its_rule_and_the_fix(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, rule: str, default: str
) -> None:
    monkeypatch.setenv(f"MODEL_GARDEN_{name}", value)
    with pytest.raises(ValueError) as error:
        from_environment()
    assert str(error.value) == f"MODEL_GARDEN_{name}: {value!r}; {rule}; correct it, or unset it for {default}"


def test_all_bad_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_GARDEN_WORKERS", "0")
    monkeypatch.setenv("MODEL_GARDEN_LOG_LEVEL", "LOUD")
    with pytest.raises(ValueError) as error:
        from_environment()
    named = [line.partition(":")[0] for line in str(error.value).splitlines()]
    assert named == ["MODEL_GARDEN_WORKERS", "MODEL_GARDEN_LOG_LEVEL"]
