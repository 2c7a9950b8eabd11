"""I/O: the generator processes of a load test, and what they say; each line of theirs is JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from simulators.load.asked import LoadFailed, Target, Test, begin_s
from simulators.load.figures import Sent
from simulators.load.orders import Orders
from simulators.load.sender import NOT_ALL
from simulators.rig import end_process

READY_S: Final = 180.0  # six million meters are read in 15
LOG_TAIL: Final = 1500
DUES: Final = "dues.bin"


class Generators:
    """The processes, and what they say."""

    def __init__(self, test: Test, target: Target, folder: Path, run: str, thirsty: Sequence[str]) -> None:
        self._outs = [folder / f"sender{part}.npz" for part in range(test.processes)]
        self.lines: list[list[dict[str, Any]]] = [[] for _ in range(test.processes)]
        self.processes: list[subprocess.Popen[str]] = []
        self._logs = [folder / f"sender{part}.log" for part in range(test.processes)]
        for part in range(test.processes):
            orders = Orders(
                asdict(test.wish), str(target.registry), str(self._outs[part]), str(folder / DUES), run,
                start_s=0.0, start_unix=0, begin_s=begin_s(test.wish), wait_s=test.wait_s, part=part,
                of=test.processes, connections=test.connections, format=test.format, numbers=test.numbers,
                host=target.host, port=target.port, user=target.user, password=target.password, cafile=target.cafile,
                cert=target.cert, key=target.key, thirsty=list(thirsty), faults=test.faults,
            )  # fmt: skip
            path = folder / f"sender{part}.json"
            path.touch(mode=0o600)
            path.write_text(json.dumps(asdict(orders)))
            with self._logs[part].open("w") as log:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "simulators.load.sender", str(path)],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                        start_new_session=True,  # Ctrl-C is for who started them, and asks them to end early
                    )
                )  # fmt: skip
        self._threads = [
            threading.Thread(target=self._follow, args=(part,), daemon=True) for part in range(test.processes)
        ]
        for thread in self._threads:
            thread.start()

    def _follow(self, part: int) -> None:
        stdout = self.processes[part].stdout
        assert stdout is not None
        for text in stdout:
            self.lines[part].append(json.loads(text))

    def await_ready(self) -> None:
        until = time.monotonic() + READY_S
        while not all(lines and "ready" in lines[0] for lines in self.lines):
            self.raise_failure()
            if time.monotonic() > until:
                raise LoadFailed(f"a generator is not ready after {READY_S:g} s: it said {self._last_words()}")
            time.sleep(0.02)

    def raise_failure(self) -> None:
        for part, process in enumerate(self.processes):
            code = process.poll()
            if code is not None and code not in (0, NOT_ALL):
                time.sleep(0.1)  # for its last line
                said = [line["error"] for line in self.lines[part] if "error" in line]
                why = said[-1] if said else f"ended with {code}: {self._log(part)}"
                raise LoadFailed(f"generator {part}: {why}")

    def begin(self, start_s: float, start_unix: int) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"start_s": start_s, "start_unix": start_unix}) + "\n")
            process.stdin.flush()

    def follow(self, told: Callable[[dict[str, Any]], None], deadline_s: float) -> None:
        """A call a second with what all of them say, until all have ended."""
        until, shown = time.monotonic() + deadline_s, -1
        while any(process.poll() is None for process in self.processes):
            newest = min((len(lines) for lines in self.lines), default=0) - 1
            if newest > shown and newest >= 1:
                shown = newest
                told(_added([lines[newest] for lines in self.lines]))
            if time.monotonic() > until:
                raise LoadFailed("the generators do not end")
            time.sleep(0.05)
        for thread in self._threads:
            thread.join(5.0)
        self.raise_failure()

    def end_early(self) -> None:
        """Nothing more becomes due; what was sent is still waited for, and everything said."""
        for process in self.processes:
            process.terminate()

    def seconds(self) -> list[dict[str, Any]]:
        """What all of them said, second by second; who has ended is as he was."""
        most = max(len(lines) for lines in self.lines)
        return [_added([lines[min(at, len(lines) - 1)] for lines in self.lines]) for at in range(1, most)]

    def sent(self) -> Sent:
        parts = []
        for path in self._outs:
            with np.load(path) as arrays:
                parts.append(Sent.from_arrays(dict(arrays)))
        return Sent.merged(parts)

    def _log(self, part: int) -> str:
        return self._logs[part].read_text(errors="replace")[-LOG_TAIL:].strip()

    def _last_words(self) -> str:
        return " / ".join(self._log(part) for part in range(len(self._logs))) or "nothing"

    def stop(self) -> None:
        for process in self.processes:
            end_process(process, 5.0)


def _added(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = [name for name in lines[0] if name != "t"]
    return {"t": max(line["t"] for line in lines)} | {
        name: sum(line.get(name, 0) for line in lines) for name in names
    }
