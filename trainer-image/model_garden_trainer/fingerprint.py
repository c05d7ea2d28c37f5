"""What makes a run the same run: a digest of everything that shapes its weights.

A checkpoint or a finished model with another fingerprint is neither resumed nor overwritten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from model_garden.contract.fields import SpecField, spec_fields
from model_garden.contract.rule import get
from model_garden.contract.spec import EffectiveSpec
from model_garden.datasets.digest import digest_files, digest_pictures
from model_garden_trainer import fetched
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.distributed import process_group
from model_garden_trainer.models import base_adapter


def fingerprint(spec: EffectiveSpec, data: Data, adapter: Path | None = None) -> str:
    """The digest of what shapes weights: settings, data files, their images, and the adapter that training continues.

    SHA-256, hexadecimal.
    """
    content: dict[str, Any] = {"spec": shaping_values(spec.to_dict())}
    if process_group.processes() > 1:  # as many micro-batches make a step
        content["processes"] = process_group.processes()
    content["data"] = [digest_files(fetched.local(path)) for path, _ in spec.datasets]
    if digest := fetched.digests(spec).get("baseModel"):
        content["model"] = digest
    if spec.rewards and spec.rewards.file:
        content["rewards"] = hashlib.sha256(Path(spec.rewards.file).read_bytes()).hexdigest()
    if (spec.chat_template or "").endswith(".jinja"):
        content["chatTemplate"] = digest_files(str(spec.chat_template))
    if adapter:
        content["adapter"] = base_adapter.digest(adapter)
    if spec.vision:
        content["pictures"] = [digest_pictures(rows) for rows in data.sources]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def shaping_values(spec: dict[str, Any], fields: Iterable[SpecField] | None = None) -> dict[str, Any]:
    """The values of an effective spec that shape weights, by path.

    A value that equals the field's plain default is skipped, so that a field which a later version adds leaves the
    fingerprint of older checkpoints as it is.
    """
    found = {}
    for field in spec_fields() if fields is None else fields:
        value = get(spec, field.dotted)
        if field.declaration is None or not field.declaration.shapes_weights or value is None:
            continue
        if field.default is None or value != field.default.plain:
            found[field.dotted] = value
    return found
