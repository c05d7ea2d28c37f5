"""An example as the messages that chat templates read, in the form of transformers' chat templating."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from model_garden.datasets.answer_spans import Chat, UnsuitableTemplate
from model_garden.datasets.example import Example, ImageRef, Message, ToolCall

REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Keys under which chat templates read the reasoning of an answer: most read the first, gpt-oss's the last."""


@lru_cache(maxsize=16)
def reasoning_key(template: str) -> str | None:
    """The key under which a template reads reasoning; None if it reads none."""
    return next((key for key in REASONING_KEYS if re.search(rf"""[.'"]{key}\b""", template)), None)


def chat_messages(example: Example, *, structured: bool, template: str = "", arguments_as_text: bool = False) -> Chat:
    """An example's turns as the messages of a chat template.

    With ``structured``, the content of a turn is a list of ``{"type": "text", "text"}`` and ``{"type": "image"}``
    parts, as templates of vision models expect; otherwise it is a string, but for turns with images. Reasoning has the
    key that ``template`` reads. The arguments of a tool call are an object, or with ``arguments_as_text`` JSON text.
    """
    key = reasoning_key(template) or REASONING_KEYS[0]
    return [_message(message, structured, key, arguments_as_text) for message in example.messages]


def refuse_lists(chat: Chat, text: str) -> None:
    """See that a template reads the parts of contents, rather than writing them as Python or as JSON does.

    Args:
        chat: the messages.
        text: what the template renders of them.

    Raises:
        UnsuitableTemplate: it writes a part so.
    """
    for number, message in enumerate(chat, 1):
        parts = message["content"] if isinstance(message["content"], list) else []
        if any(form in text for part in parts for form in (str(part), json.dumps(part, ensure_ascii=False))):
            raise UnsuitableTemplate(
                f"the chat template writes the parts of message {number} ({message['role']}) as a list, since it reads "
                "text alone"
            )


def _message(message: Message, structured: bool, key: str, arguments_as_text: bool) -> dict[str, Any]:
    content: Any = message.text
    if structured or any(isinstance(part, ImageRef) for part in message.parts):
        content = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in message.parts
        ]
    found: dict[str, Any] = {"role": message.role, "content": content}
    details = message.details
    if details.reasoning:
        found[key] = details.reasoning
    if details.tool_calls:
        found["tool_calls"] = [_call(call, arguments_as_text) for call in details.tool_calls]
    if details.name is not None:
        found["name"] = details.name
    if details.call_id is not None:
        found["tool_call_id"] = details.call_id
    return found


def _call(call: ToolCall, arguments_as_text: bool) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False) if arguments_as_text else call.arguments
    found: dict[str, Any] = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return found if call.id is None else {"id": call.id} | found
