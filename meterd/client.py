"""I/O: the CLI's side of the daemon's HTTP interface: finds it by endpoint.json, asks with a deadline, or stops.

No daemon: exit 3. Too slow: exit 5, and sending the same again is harmless. Refused: exit 1 with what to do.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from config.settings import Settings

SLACK_REAL_S: Final = 5.0  # on top of what the daemon itself waits


def endpoint(settings: Settings) -> dict[str, Any]:
    """What the running daemon wrote: http, token, pid, mqtt. Stops with exit 3 when there is none."""
    from config.settings import Paths

    path = Paths(settings.data_dir).endpoint
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise _not_running(settings) from None
    except (OSError, ValueError) as wrong:
        raise Stop(Exit.NOT_RUNNING, f"{path} cannot be read: {wrong}") from None
    return found


def call(settings: Settings, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request; its answer when the daemon accepted it (also 202), else the command ends with its reason."""
    import httpx

    found = endpoint(settings)
    deadline = httpx.Timeout(settings.http.deadline_real_s + SLACK_REAL_S, connect=SLACK_REAL_S)
    headers = {"Authorization": f"Bearer {found['token']}"}
    try:
        with httpx.Client(base_url=found["http"], timeout=deadline, headers=headers, trust_env=False) as http:
            answer = http.request(method, path, json=body)
    except httpx.ConnectError:
        raise _not_running(settings) from None
    except httpx.TimeoutException:
        raise Stop(Exit.TIMED_OUT, "the daemon did not answer in time: send the same command again") from None
    except httpx.TransportError as wrong:
        raise Stop(Exit.NOT_RUNNING, f"the daemon went away: {wrong}") from None
    if answer.status_code == 401:  # another daemon's port by now, or a file left by one that was killed
        raise _not_running(settings)
    try:
        told: dict[str, Any] = answer.json()
    except ValueError:
        raise Stop(Exit.NOT_RUNNING, f"{found['http']} is no daemon of ours") from None
    if answer.is_success:
        return told
    code = Exit.TIMED_OUT if answer.status_code == 503 else Exit.NO
    raise Stop(code, f"{told.get('error', answer.status_code)}. {told.get('what_to_do', '')}".strip())


def command(settings: Settings, path: str, **body: Any) -> dict[str, Any]:
    """A command that ends in an outcome; not applied in time: exit 5, applied without effect: exit 1."""
    told = call(settings, "POST", path, body)
    if not told["applied"]:
        raise Stop(Exit.TIMED_OUT, f"inbox row {told['inbox_id']} is stored and not applied yet: it will be")
    if told["outcome"]:
        raise Stop(Exit.NO, f"inbox row {told['inbox_id']} changed nothing: {told['outcome']}")
    return told


def activate_registry(settings: Settings, digest: str) -> dict[str, Any]:
    """Have the running daemon activate a staged registry version."""
    return command(settings, "/v1/registry", digest=digest)


def activate(settings: Settings, digest: str) -> bool:
    """`activate_registry`, but False when no daemon runs: its next start activates what is staged."""
    try:
        activate_registry(settings, digest)
    except Stop as stop:
        if stop.code is Exit.NOT_RUNNING:
            return False
        raise
    return True


def _not_running(settings: Settings) -> Stop:
    return Stop(Exit.NOT_RUNNING, f"no daemon runs on {settings.data_dir}: start it with `meterd run`")
