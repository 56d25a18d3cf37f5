"""What types are called, for people."""

from __future__ import annotations

from typing import Any

from nexuskit.contract.adapters import OPAQUE, Schema


def type_name(schema: Schema) -> str:
    """What a type is called, for people."""
    found: Any = schema.get("title") or schema.get(OPAQUE)
    if isinstance(found, str):
        return found
    if isinstance(reference := schema.get("$ref"), str):
        return reference.rsplit("/", 1)[-1]
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return " or ".join(dict.fromkeys(type_name(each) for each in schema[keyword]))
    match schema.get("type"):
        case "array":
            return f"list of {type_name(schema.get('items') or {})}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"mapping to {type_name(schema['additionalProperties'])}"
        case "null":
            return "nothing"
        case str(name):
            return name
        case _:
            return "anything"
