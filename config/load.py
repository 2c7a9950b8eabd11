"""I/O: reads the settings tree from a TOML file and the environment, and says where each value came from.

The environment wins over the file, the file over the defaults. `METERD_SECTION__KEY` sets `section.key`
(METERD_GATEWAYS__DEMO__URL sets gateways.demo.url): JSON for a list, plain text for anything else. A secret may
be written as "file:PATH": it is then the contents of that file, relative to the settings file's folder; so is
`signing.keys_file`, whose lines are keys of the table `signing.keys`.
Every fault of both places is reported at once; no fault, origin or rendering holds a secret.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from config.settings import Settings
from config.shape import Kind, Leaf, dotted, hide, kind_at, leaf_values
from config.toml_lines import Key, key_lines, line_of

PREFIX: Final = "METERD_"
NOT_SETTINGS: Final = frozenset({"METERD_CONFIG", "METERD_KILL_AT"})  # the file's own name; tests (config.steps)
FILE_MAX_BYTES: Final = 1 << 20
KEYS_FILE_MAX_BYTES: Final = 16 << 20  # a hundred thousand concentrators
SECRET_MAX_BYTES: Final = 1 << 16
_AT_LINE: Final = re.compile(r"\(at line (\d+), column \d+\)$")


class Fault(NamedTuple):
    """One thing wrong: `where` is file:line, file or variable; `key` is dotted, "" for the whole."""

    where: str
    key: str
    what: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


class ConfigFaults(Exception):
    """Everything that is wrong with the configuration, in the order of file, then environment."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults: Final = tuple(faults)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings and, for every dotted key, "default", "file:LINE" or "environment METERD_..."."""

    settings: Settings
    origins: dict[str, str]


@dataclass(slots=True)
class _Draft:
    """Raw values as they are merged, where each one stands, and what is wrong so far."""

    base: Path
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Key, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def where(self, key: Key) -> str:
        """Where `key` stands, or the nearest table above it, or ""."""
        return next((self.places[key[:n]] for n in range(len(key), -1, -1) if key[:n] in self.places), "")

    def fault(self, key: Key, what: str) -> None:
        self.faults.append(Fault(self.where(key), dotted(key), what))


def load(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Settings from `path` (None: no file) and `environ`; raises ConfigFaults with every fault, once each."""
    draft = _Draft(base=path.parent if path else Path())
    draft.places[()] = str(path) if path else "environment"
    if path is not None:
        _read_file(draft, path)
    unread = bool(draft.faults)
    _read_environment(draft, environ)
    if unread:  # what the file would have set is unknown: say nothing about keys that are missing
        raise ConfigFaults(draft.faults)
    _read_keys_file(draft)
    _check_leaves(draft)
    settings = _validate(draft)
    if draft.faults or settings is None:
        raise ConfigFaults(sorted(draft.faults, key=_by_place))
    origins = {dotted(key): draft.places.get(key, "default") for key, _ in leaf_values(settings)}
    return Loaded(settings, origins)


def render(loaded: Loaded) -> list[tuple[str, str, str]]:
    """(dotted key, value as text, origin) of every effective value; secrets, and passwords in URLs, as ********."""
    return [(dotted(key), hide(value), loaded.origins[dotted(key)]) for key, value in leaf_values(loaded.settings)]


def _by_place(fault: Fault) -> tuple[bool, str, int]:
    if fault.where.startswith("environment"):
        return True, "", 0
    file, _, line = fault.where.rpartition(":")
    return (False, file, int(line)) if file and line.isdigit() else (False, fault.where, 0)


def _read_file(draft: _Draft, path: Path) -> None:
    draft.values = _read_toml(draft, path, (), FILE_MAX_BYTES) or {}


def _read_toml(draft: _Draft, path: Path, below: Key, size_max: int) -> dict[str, Any] | None:
    """The file's values, and in `draft` the places of their keys `below` a table; None with a fault noted."""

    def fault(where: str, what: str) -> dict[str, Any] | None:
        draft.faults.append(Fault(where, dotted(below), what))
        return None

    try:
        with path.open("rb") as file:
            body = file.read(size_max + 1)
        if len(body) > size_max:
            return fault(str(path), f"longer than {size_max} bytes")
        text = body.decode()
        values = tomllib.loads(text)
    except OSError as error:
        return fault(str(path), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        return fault(str(path), f"is not UTF-8 at byte {error.start}")
    except RecursionError:
        return fault(str(path), "is nested too deeply")
    except ValueError as error:  # TOMLDecodeError, Python's own limit on digits, a NUL in the path
        found = _AT_LINE.search(str(error))
        where = f"{path}:{found.group(1)}" if found else str(path)
        return fault(where, f"is not TOML: {_AT_LINE.sub('', str(error)).strip()}")
    lines = key_lines(text)
    for key in _keys(values):
        line = line_of(lines, key)
        draft.places[below + key] = f"{path}:{line}" if line else str(path)
    return values


def _read_keys_file(draft: _Draft) -> None:
    """`signing.keys_file` into `signing.keys`; a concentrator that stands in both is a fault of the file."""
    table: Key = ("signing", "keys")
    name = _get(draft.values, ("signing", "keys_file"))
    keys = _get(draft.values, ("signing",)).setdefault("keys", {}) if isinstance(name, str) else None
    if not isinstance(name, str) or not isinstance(keys, dict):
        return  # not given, or wrong: that is its own fault
    there = {key: draft.places[(*table, key)] for key in keys}
    path = draft.base / name
    for key, value in (_read_toml(draft, path, table, KEYS_FILE_MAX_BYTES) or {}).items():
        if key in there:
            draft.fault((*table, key), f"stands in {there[key]} too: which one is right?")
        keys[key] = value


def _keys(values: dict[str, Any], above: Key = ()) -> list[Key]:
    keys: list[Key] = []
    for name, value in values.items():
        keys.append((*above, name))
        if isinstance(value, dict):
            keys.extend(_keys(value, (*above, name)))
    return keys


def _read_environment(draft: _Draft, environ: Mapping[str, str]) -> None:
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        key = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        leaf = kind_at(key)
        here = f"environment {variable}"
        if leaf is None:
            draft.faults.append(Fault(here, dotted(key), "no such key"))
        elif leaf.kind is Kind.SECTION:
            draft.faults.append(Fault(here, dotted(key), "is a section; set its keys one by one"))
        else:
            _put_variable(draft, key, leaf, here, environ[variable])


def _put_variable(draft: _Draft, key: Key, leaf: Leaf, here: str, text: str) -> None:
    value: Any = text
    if leaf.kind is Kind.LIST:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            draft.faults.append(Fault(here, dotted(key), 'wants a JSON list, such as ["a", "b"]'))
            return
    table = draft.values
    for depth, name in enumerate(key[:-1], start=1):
        below = table.setdefault(name, {})
        if not isinstance(below, dict):
            return  # the file has a value where a section belongs: that is its own fault
        draft.places.setdefault(key[:depth], here)
        table = below
    table[key[-1]] = value
    draft.places[key] = here


def _check_leaves(draft: _Draft) -> None:
    """Unknown keys, kinds that pydantic would bend (true for 1, inf for a deadline), and secrets in files."""
    for key in _keys(draft.values):
        leaf = kind_at(key)
        value = _get(draft.values, key)
        if leaf is None:
            above = kind_at(key[:-1])  # below a table that is itself wrong only that table is named
            if above is not None and above.kind is Kind.SECTION:
                draft.fault(key, "no such key")
            _drop(draft.values, key)
        elif (what := leaf.refuses(value, from_text=draft.where(key).startswith("environment "))) is not None:
            draft.fault(key, what)
            _drop(draft.values, key)
        elif leaf.secret:
            _read_secret(draft, key, value)


def _read_secret(draft: _Draft, key: Key, value: Any) -> None:
    many = isinstance(value, list)
    clear: list[Any] = []
    for text in value if many else [value]:
        if not isinstance(text, str) or not text.startswith("file:"):
            clear.append(text)
            continue
        try:
            with (draft.base / text.removeprefix("file:")).open("rb") as file:
                secret = file.read(SECRET_MAX_BYTES + 1).decode().rstrip("\r\n")
            what = "its file is empty" if not secret else "its file is too long"
            if not 0 < len(secret) <= SECRET_MAX_BYTES:
                draft.fault(key, what)
        except OSError as error:
            secret = ""
            draft.fault(key, f"its file cannot be read: {error.strerror}")
        except ValueError:  # not UTF-8, or a NUL in the path; neither may be quoted
            secret = ""
            draft.fault(key, "its file cannot be read as text")
        clear.append(secret)
    _get(draft.values, key[:-1])[key[-1]] = clear if many else clear[0]


def _validate(draft: _Draft) -> Settings | None:
    """Settings, or None with the faults noted. Faulty keys are then set aside, so that rules that span
    several keys (they run only on a tree whose keys are all good) are reported in the same go."""
    settings, errors = _try(draft.values)
    if settings is not None or not errors:
        return settings
    blamed = {fault.key for fault in draft.faults}
    for key, what in errors:
        _note(draft, blamed, key, what)
    if all(key for key, _ in errors):
        for key, _ in errors:
            _drop(draft.values, key)
            if key[0] == "gateways":  # what is left of it would only miss its keys
                _drop(draft.values, key[:2])
        draft.values.setdefault("data_dir", ".")
        for key, what in _try(draft.values)[1]:
            _note(draft, blamed, key, what)
    return None


def _note(draft: _Draft, blamed: set[str], key: Key, what: str) -> None:
    if key:
        rules = [(key, what)]
    else:  # rules across keys, one a line: "section.key what"
        split = [rule.partition(" ") for rule in what.split("\n")]
        rules = [(tuple(name.split(".")), rest) for name, _, rest in split]
    for named, told in rules:
        if dotted(named) not in blamed:
            blamed.add(dotted(named))
            draft.fault(named, told)


def _try(values: dict[str, Any]) -> tuple[Settings | None, list[tuple[Key, str]]]:
    """Settings, or (key, what) of every fault. Pydantic's own error holds the input, so it goes no further."""
    try:
        return Settings.model_validate(values), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
    faults: list[tuple[Key, str]] = []
    for detail in details:
        key = tuple(str(part) for part in detail["loc"])
        while key and kind_at(key) is None:  # an item of a list: the list is named
            key = key[:-1]
        what = detail["msg"].removeprefix("Value error, ")
        leaf = kind_at(key)
        given = _get(values, key)
        if leaf and leaf.kind is Kind.VALUE and not leaf.secret and given is not None:
            what = f"{what} (is {hide(given)[:60]!r})"
        faults.append((key, what[:1].lower() + what[1:] if key else what))
    return None, faults


def _get(values: Any, key: Key) -> Any:
    for name in key:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _drop(values: dict[str, Any], key: Key) -> None:
    table = _get(values, key[:-1])
    if isinstance(table, dict):
        table.pop(key[-1], None)
