"""Pure: what kind of value each dotted key of the settings tree holds, and how a value is shown without secrets."""

from __future__ import annotations

import json
import math
import re
import types
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from config.settings import Settings
from config.toml_lines import Key

HIDDEN: Final = "********"
_URL_USER: Final = re.compile(r"//[^/@\s]*@")


class Kind(Enum):
    """A table, a list, or one value."""

    SECTION = "section"
    LIST = "list"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Leaf:
    """The kind of a key, its base type, and whether it may never be shown."""

    kind: Kind
    base: Any
    secret: bool

    def refuses(self, value: Any, *, from_text: bool) -> str | None:
        """Why `value` is of the wrong kind where pydantic would convert it; None when it may pass on."""
        if self.kind is Kind.SECTION:
            return None if isinstance(value, dict) else "is a section, not a value"
        if self.kind is Kind.LIST:
            return None if isinstance(value, list) else "wants a list"
        if isinstance(value, dict | list):
            return "wants one value"
        if isinstance(value, bool) and self.base is not bool:
            return "true and false are no value here"
        if self.base in (int, float) and _not_finite(value):
            return "is not a finite number"
        if from_text or self.base not in (int, float, bool):
            return None
        return "wants no quotes" if isinstance(value, str) else None


def _not_finite(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lstrip("+-").lower() in ("inf", "infinity", "nan")
    return isinstance(value, float) and not math.isfinite(value)


@cache
def kind_at(key: Key) -> Leaf | None:
    """What belongs at `key`; None when the tree has no such key."""
    at: Any = Settings
    for name in key:
        if isinstance(at, type) and issubclass(at, BaseModel):
            field = at.model_fields.get(name)
            if field is None:
                return None
            at = _strip(field.annotation)
        elif get_origin(at) is dict and name:
            at = _strip(get_args(at)[1])
        else:
            return None
    if (isinstance(at, type) and issubclass(at, BaseModel)) or get_origin(at) is dict:
        return Leaf(Kind.SECTION, at, secret=False)
    if get_origin(at) is tuple:
        inner = _strip(get_args(at)[0])
        return Leaf(Kind.LIST, inner, secret=inner is SecretStr)
    return Leaf(Kind.VALUE, at, secret=at is SecretStr)


def _strip(annotation: Any) -> Any:
    """The type without Annotated and `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            annotation = next(a for a in get_args(annotation) if a is not type(None))
        else:
            return annotation


def leaf_values(settings: BaseModel) -> list[tuple[Key, Any]]:
    """Every key and value of the tree in its own order; an empty table of sections is no row."""
    rows: list[tuple[Key, Any]] = []
    for name in type(settings).model_fields:
        rows.extend(_below((name,), getattr(settings, name)))
    return rows


def _below(key: Key, value: Any) -> list[tuple[Key, Any]]:
    if isinstance(value, BaseModel):
        return [((*key, *below), leaf) for below, leaf in leaf_values(value)]
    if isinstance(value, dict):
        return [row for name, inner in value.items() for row in _below((*key, name), inner)]
    return [(key, value)]


def hide(value: Any) -> str:
    """`value` as text for people: secrets as ********, and the user part of a URL as well; "" when not set."""
    match value:
        case None:
            return ""
        case SecretStr():
            return HIDDEN
        case bool():
            return "true" if value else "false"
        case tuple() | list():
            return json.dumps([v if isinstance(v, int | float) else hide(v) for v in value], ensure_ascii=False)
        case Path() | str():
            return _URL_USER.sub(f"//{HIDDEN}@", str(value))
        case _:
            return str(value)


def dotted(key: Key) -> str:
    """("a", "b") -> "a.b"."""
    return ".".join(key)
