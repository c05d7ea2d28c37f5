"""What a trainer is told and writes down: all that shapes a run, and nothing that is the cluster's own."""

from __future__ import annotations

from model_garden.contract.defaults import effective_spec
from model_garden.contract.resource import parse_spec
from model_garden.contract.trainer_config import TrainerConfig, for_record, parse_config

SPEC = effective_spec(
    parse_spec(
        {
            "baseModel": "a/b",
            "datasetPath": "./data/x.jsonl",
            "pushToHub": {"repo": "a/c"},
            "hubTokenSecret": {"name": "hub-secret", "key": "token"},
            "storage": {"cacheClaim": "cache-claim"},
            "podTemplate": {
                "env": [{"name": "WANDB_API_KEY", "value": "key-123"}],
                "imagePullSecrets": [{"name": "pull-secret"}],
            },
        }
    ),
    "job",
)


def test_a_key_in_the_pod_s_environment_is_not_in_what_the_trainer_is_told() -> None:
    text = TrainerConfig(name="x", spec=SPEC).model_dump_json(by_alias=True, exclude_none=True)
    assert "key-123" not in text and "pull-secret" not in text
    told = parse_config(text).spec
    assert told.storage and told.storage.cache_claim == "cache-claim"  # the preflight looks at it
    assert told == SPEC.model_copy(update={"pod_template": None})


def test_what_is_written_beside_a_model_names_no_claim_and_no_secret() -> None:
    written = for_record(SPEC)
    assert not {"podTemplate", "storage", "hubTokenSecret"} & written.keys()
    assert written["baseModel"] == "a/b" and written["pushToHub"]["repo"] == "a/c"
