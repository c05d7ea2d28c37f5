"""Plain values as YAML that readers of YAML 1.1 and 1.2 read alike."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter


def yaml_text(value: Any) -> str:
    """``value`` as YAML, the same for readers of YAML 1.1, where ``off`` is false and ``2e-5`` a string."""

    class Representer(SafeRepresenter):
        pass

    def string(representer: SafeRepresenter, text: str) -> Any:
        quoted = text.lower() in ("on", "off", "yes", "no", "y", "n", "true", "false", "null", "~")
        style = '"' if quoted else "|" if "\n" in text else None
        return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    def number(representer: SafeRepresenter, value: float) -> Any:
        mantissa, exponent, power = repr(value).partition("e")
        dotted = mantissa if "." in mantissa or not exponent else f"{mantissa}.0"
        return representer.represent_scalar("tag:yaml.org,2002:float", dotted + exponent + power)

    Representer.add_representer(str, string)
    Representer.add_representer(float, number)
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 120
    text = io.StringIO()
    yaml.dump(value, text)
    return text.getvalue()
