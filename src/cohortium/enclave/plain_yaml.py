"""YAML that every reader takes alike: blocks, all text in double quotes, keys as they are given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def to_yaml(value: Mapping[str, Any]) -> str:
    """A document of mappings, lists, text, numbers and truth values."""
    return "\n".join(_mapping(value, "")) + "\n"


def _mapping(value: Mapping[str, Any], indent: str) -> list[str]:
    out = []
    for key, inner in value.items():
        if isinstance(inner, Mapping | list) and inner:
            out.append(f"{indent}{key}:")
            out += _block(inner, indent + "  ")
        else:
            out.append(f"{indent}{key}: {_plain(inner)}")
    return out


def _block(value: Mapping[str, Any] | list[Any], indent: str) -> list[str]:
    if isinstance(value, Mapping):
        return _mapping(value, indent)
    out = []
    for one in value:
        lines = _mapping(one, indent + "  ") if isinstance(one, Mapping) else [_plain(one)]
        out.append(f"{indent}- {lines[0].strip()}")
        out += lines[1:]
    return out


def _plain(value: Any) -> str:
    # JSON's text, numbers, truth values and empty lists are YAML's.
    return json.dumps(value)
