"""docs/03-api-specification.md: the REST API, from its OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from model_garden.api.app import create_app
from model_garden.api.openapi import TAGS
from tools.reference.markdown import page, table

Schema = dict[str, Any]
INTRO = """
`model-garden serve` serves this API at `http://127.0.0.1:8000`. `GET /api/v1/openapi.json` returns its OpenAPI
document. A job has the fields of [the TrainingJob's spec](reference/spec.md) in snake_case; camelCase is read too.

```bash
curl -X POST http://localhost:8000/api/v1/training/jobs \\
  -H "Content-Type: application/json" \\
  -d '{
    "name": "my-vision-model",
    "base_model": "Qwen/Qwen2.5-VL-3B-Instruct",
    "dataset_path": "./data/vision_dataset.jsonl",
    "is_vision": true,
    "hyperparameters": {"learning_rate": 0.00002, "num_epochs": 3}
  }'
```

## Credentials

The server asks the Kubernetes API with the caller's own credentials, so that RBAC decides what a request may do.

| server | request | credentials |
|---|---|---|
| any | with `Authorization: Bearer TOKEN` | the token |
| with `--proxy-auth` | with `X-Forwarded-Access-Token: TOKEN` | the token |
| on a loopback address | without a token | those of the kubeconfig |
| on another address, in a pod, or with `--proxy-auth` | without a token | none: 401 |

A server with `--local` asks for no credentials.

On a loopback address, the `Host` header must be `localhost` or a loopback address, and `Origin`, where it is sent, the
server itself. The namespace is `?namespace=`, else that of the token's service account, else that of the kubeconfig's
context.

## Errors

Every error is a problem document of type `application/problem+json`
([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)):

```json
{
  "type": "about:blank",
  "title": "Unprocessable Entity",
  "status": 422,
  "reason": "Invalid",
  "detail": "hyperparameters.learning_rat: unknown field; did you mean learningRate?",
  "errors": [
    {
      "field": "hyperparameters.learning_rat",
      "reason": "FieldUnknown",
      "message": "unknown field; did you mean learningRate?"
    }
  ]
}
```

Every route that asks the Kubernetes API may also answer 401, 403, 404, 429, 502 or 503. The tables below leave these
out.

## Repeated requests

`POST /api/v1/training/jobs` with the name and body of a job that exists returns that job with 200. Another body under
the same name is refused with 409, and `errors` names each field that differs. With an `Idempotency-Key` header a
request needs no name: the same key and body return the same job, for as long as the job exists.

## Pages

A list has `continue` where there are more jobs. Pass it as `?continue=` with the same other parameters to get the next
page. All pages show the jobs as they were at the first one. A token expires after a few minutes: 410.

## Events

`GET /api/v1/training/jobs/{id}/events` is a stream of server-sent events. Each `job` event holds the whole job. A
client that reconnects with `Last-Event-ID` gets the changes since that event where the server still has them, and else
the job as it is.

## Data sets and models

A data set is a data file in `./data`, or a folder there with data files and their images. `POST /api/v1/datasets`
stores the files of a `multipart/form-data` body in a folder; the file name of each part is its path in that folder.
This sends all files of the folder `receipts`:

```bash
cd receipts
find . -type f -printf 'form = "files=@\\"%P\\";filename=\\"%P\\""\\n' |
  curl "http://localhost:8000/api/v1/datasets?folder=receipts" --config -
```

The server checks every row and image as `model-garden validate` does. A data set that cannot be trained on is not
stored: the answer is 422, and `errors` names files and rows. `keep_invalid=true` stores it all the same. The folder
changes at once when the check has passed, so a request that breaks off changes nothing. Other files in the folder
stay, and files with the same content are not written again.

A body may have 100 GiB and 100,000 files. A sender that is silent for 30 seconds, or sends less than 16 KiB a second,
is refused with 408. While a file arrives, it is kept in the server's temporary folder (`TMPDIR`).

`GET /api/v1/models/{name}/download` is a tar archive, without checkpoints:

```bash
curl -sS http://localhost:8000/api/v1/models/receipts/download | tar x
cd receipts && sha256sum --check SHA256SUMS
```

A data set or model that a job needs is not deleted until the job has ended.
"""
_LEFT_OUT = ("401", "403", "404", "429", "502", "503")


def rest_reference() -> str:
    """The page as Markdown."""
    document = create_app().openapi()
    parts = [INTRO]
    for tag in TAGS:
        parts.append(f"\n## {tag['name'].capitalize()}\n\n{tag['description']}\n")
        for path, operations in document["paths"].items():
            parts += [
                _operation(method, path, operation)
                for method, operation in operations.items()
                if tag["name"] in operation["tags"]
            ]
    parts.append("\n## Schemas\n")
    parts += [_schema(name, schema) for name, schema in document["components"]["schemas"].items()]
    return page("REST API", "operator/model_garden/api", *parts)


def _operation(method: str, path: str, operation: Schema) -> str:
    text = f"\n### `{method.upper()} {path}`\n\n{operation['description']}\n"
    if parameters := operation.get("parameters"):
        text += "\n" + table(["parameter", "in", "type", "meaning"], (_parameter(each) for each in parameters)) + "\n"
    if body := operation.get("requestBody"):
        [(kind, media)] = body["content"].items()
        text += f"\nBody: {type_of(media['schema']) if 'json' in kind else f'`{kind}`'}.\n"
    answers = ((status, answer) for status, answer in operation["responses"].items() if status not in _LEFT_OUT)
    return text + "\n" + table(["status", "content", "meaning"], (_answer(*each) for each in sorted(answers)))


def _parameter(parameter: Schema) -> tuple[str, ...]:
    name = f"`{parameter['name']}`" + (" (required)" if parameter["required"] else "")
    return name, parameter["in"], type_of(parameter["schema"]), parameter.get("description", "")


def _answer(status: str, answer: Schema) -> tuple[str, ...]:
    content = [
        type_of(media["schema"]) if "json" in kind else f"`{kind}`" for kind, media in answer.get("content", {}).items()
    ]
    return status, ", ".join(content), answer["description"]


def _schema(name: str, schema: Schema) -> str:
    text = f"\n### {name}\n\n{' '.join(schema.get('description', '').split())}\n"
    required = schema.get("required", ())
    return text + "\n" + table(["field", "type", "meaning"], _fields(schema.get("properties", {}), required))


def _fields(properties: Schema, required: list[str]) -> Iterator[tuple[str, ...]]:
    for name, field in properties.items():
        shown = f"`{name}`" + (" (required)" if name in required else "")
        yield shown, type_of(field), " ".join(field.get("description", "").split())


def type_of(schema: Schema) -> str:
    """A JSON schema in words: ``integer``, ``list of string``, a link to a schema of the page."""
    if name := schema.get("$ref", "").rpartition("/")[2]:
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(each) for each in schema["anyOf"] if each.get("type") != "null"))
    if "enum" in schema:
        return " / ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    inner = schema.get("additionalProperties")
    if schema.get("type") == "object" and isinstance(inner, dict) and inner:
        return f"map of {type_of(inner)}"
    default = f", {json.dumps(schema['default'])} unless given" if schema.get("default") not in (None, "") else ""
    return str(schema.get("type", "any")) + default
