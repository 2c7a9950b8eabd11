"""I/O: whether a file system that calls something synced still takes changes: if not, its word may be worth nothing.

ext4 that turns read-only (`errors=remount-ro`, or an aborted journal) while a file is being synced lets that fsync
return 0 and forgets what the file grew by: measured on Linux 6.18 (docs/adr/0011), of six reading logs that were
written while the disk turned, one or more had lost a record that was called durable in 15 of 40 turns. A file's
time is no way to ask (its error is dropped); an extended attribute is: it begins a transaction of the file system's
own, which fails once the journal is aborted. With it none was lost in 60 turns (tests/crash/test_read_only.py).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

_NAME: Final = b"user.meterd.synced"
_GONE: Final = {errno.EROFS, errno.EIO}


class Synced:
    """Of one file, asked after every commit: some microseconds, and nothing is written."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._asks = hasattr(os, "setxattr")

    def make_sure(self) -> None:
        """Raise OSError when the file system has turned read-only: what it said just now is not to be believed.

        A file system without extended attributes is believed, as is one without room for them.
        """
        if not self._asks:
            return
        try:
            os.setxattr(self._path, _NAME, b"")
        except OSError as error:
            if error.errno in _GONE:
                raise
            self._asks = error.errno not in (errno.ENOTSUP, errno.EPERM)
