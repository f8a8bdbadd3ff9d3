"""The console of a job that runs in a results folder, as far as it is written."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from offline_bundle.runner.job_files.names import CONSOLE_NAME
from offline_bundle.wheelhouse.runtime.disk.files import open_regular


class LiveConsole:
    """Reads what a job has added to its console since the last call.

    A job may work in the folder of an attempt, which is renamed at its end: the file stays the
    same. Another attempt starts a new file.
    """

    def __init__(self, folder: Path, attempts: Path) -> None:
        """*folder* is that of the job, *attempts* has folders with its name and a suffix."""
        self._folder = folder
        self._attempts = attempts
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def read(self) -> str:
        """Return new text; empty if there is none."""
        for path in self._candidates():
            try:
                with open_regular(path, follow_links=True) as stream:
                    status = os.fstat(stream.fileno())
                    if self._file != (status.st_dev, status.st_ino):
                        self._file, self._offset = (status.st_dev, status.st_ino), 0
                        self._decoder.reset()
                    stream.seek(self._offset)
                    content = stream.read()
            except OSError:
                continue
            self._offset += len(content)
            return self._decoder.decode(content)
        return ""

    def _candidates(self) -> list[Path]:
        """Return where the console may be: in the job's folder, else in the newest attempt."""
        attempts = self._attempts.glob(f"{self._folder.name}.*/{CONSOLE_NAME}")
        newest = sorted(attempts, key=lambda path: path.parent.stat().st_mtime, reverse=True)
        return [self._folder / CONSOLE_NAME, *newest]
