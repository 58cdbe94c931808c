"""Words to write JSON schemas with."""

from typing import Any

Schema = dict[str, Any]

ANY: Schema = {}
STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
OBJECT: Schema = {"type": "object"}
NULL: Schema = {"type": "null"}
LOGPROB: Schema = {"type": "number", "maximum": 0}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema, **bounds: int) -> Schema:
    return {"type": "array", "items": items, **bounds}


def one_of(*choices: Schema) -> Schema:
    return {"anyOf": list(choices)}


def nullable(schema: Schema) -> Schema:
    return one_of(schema, NULL)


def const(value: str | bool) -> Schema:
    return {"const": value}


def enum(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def number(low: float, high: float, *, above_low: bool = False) -> Schema:
    """A number within bounds; with `above_low` the lower bound itself is outside."""
    lower = {"exclusiveMinimum": low} if above_low else {"minimum": low}
    return {"type": "number", **lower, "maximum": high}


def whole(low: int, high: int | None = None) -> Schema:
    upper = {} if high is None else {"maximum": high}
    return {"type": "integer", "minimum": low, **upper}


def text(low: int, high: int) -> Schema:
    return {"type": "string", "minLength": low, "maxLength": high}


def told(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def thing(required: str, properties: dict[str, Schema], **more: Any) -> Schema:
    """An object. `required` are names with blanks between them; further fields are let through."""
    schema: Schema = {"type": "object", "properties": properties, **more}
    if required:
        schema["required"] = required.split()
    return schema
