"""The operator's settings."""

import pytest

from model_garden.builders.settings import from_environment


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = from_environment({})
    assert settings.trainer_command == ("python", "-m", "model_garden_trainer")
    assert settings.namespaces == ()
    assert settings.progress_seconds == 10


def test_an_empty_value_is_as_good_as_none() -> None:
    assert from_environment({"MODEL_GARDEN_DATA_CLAIM": "", "MODEL_GARDEN_NAMESPACES": ""}) == from_environment({})


def test_every_kind_of_value_is_read() -> None:
    settings = from_environment(
        {
            "MODEL_GARDEN_TRAINER_IMAGE": "registry/trainer:1",
            "MODEL_GARDEN_TRAINER_COMMAND": '["python", "x.py"]',
            "MODEL_GARDEN_NAMESPACES": "a, b",
            "MODEL_GARDEN_PROGRESS_SECONDS": "2.5",
            "MODEL_GARDEN_LEADER_ELECTION": "true",
            "MODEL_GARDEN_LOG_FORMAT": "json",
            "POD_NAME": "operator-0",
        }
    )
    assert settings.trainer_command == ("python", "x.py")
    assert settings.namespaces == ("a", "b")
    assert settings.progress_seconds == 2.5
    assert settings.leader_election
    assert settings.pod_name == "operator-0"


def test_what_cannot_be_read_is_named_all_at_once() -> None:
    with pytest.raises(ValueError) as error:
        from_environment(
            {
                "MODEL_GARDEN_PROGRESS_SECONDS": "soon",
                "MODEL_GARDEN_TRAINER_COMMAND": "python x.py",
                "MODEL_GARDEN_LOG_FORMAT": "xml",
                "MODEL_GARDEN_LEADER_ELECTION": "yes",
            }
        )
    assert str(error.value).splitlines() == [
        "MODEL_GARDEN_TRAINER_COMMAND: 'python x.py' is not a JSON list of strings",
        "MODEL_GARDEN_PROGRESS_SECONDS: 'soon' is not a number of seconds above 0",
        "MODEL_GARDEN_LEADER_ELECTION: 'yes' is not true or false",
        "MODEL_GARDEN_LOG_FORMAT: 'xml' is not text or json",
    ]
