"""Chat templates as templates of Ollama: each prompt is the same, or no template is written."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from model_garden_trainer.exports.ollama import Blocks, blocks_of

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
WITH_DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}{% endif %}" + CHATML
)
INSTRUCT = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'system' %}[SYS]{{ m['content'] }}[/SYS]{% else %} {{ m['content'] }}</s>{% endif %}"
    "{% endfor %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ none.missing.attribute }}{% endif %}" + CHATML
NUMBERED = "{% for m in messages %}{{ loop.index }} {{ m['role'] }}: {{ m['content'] }} {% endfor %}"


def found(template: str) -> Blocks | None:
    compiled = ImmutableSandboxedEnvironment().from_string(template)

    def render(messages: list[dict[str, Any]], generate: bool) -> str:
        return compiled.render(messages=messages, add_generation_prompt=generate)

    return blocks_of(render)


@pytest.mark.parametrize("template", [CHATML, WITH_DEFAULT_SYSTEM, INSTRUCT])
@pytest.mark.parametrize("system", [True, False])
def test_the_prompt_is_that_of_the_chat_template(template: str, system: bool) -> None:
    talk = [{"role": "system", "content": "S"}] * system
    talk += [{"role": role, "content": word} for role, word in (("user", "u"), ("assistant", "a"), ("user", "v"))]
    blocks = found(template)
    compiled = ImmutableSandboxedEnvironment().from_string(template)
    assert blocks and blocks.render(talk) == compiled.render(messages=talk, add_generation_prompt=True)


def test_the_template_of_go_has_the_blocks() -> None:
    blocks = found(CHATML)
    assert blocks and blocks.go() == (
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ else }}{{ end }}{{ range .Messages }}"
        '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n{{ end }}{{ end }}'
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("template", [NO_SYSTEM, NUMBERED])
def test_a_template_that_depends_on_more_than_the_role_gives_none(template: str) -> None:
    assert found(template) is None
