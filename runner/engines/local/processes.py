"""The running job processes, and the signals that are forwarded to them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import IO

from offline_bundle.runner.model import JobSpec

_GRACE_SECONDS = 10.0
"""Time that a job has to end after a signal, before it is killed."""


class JobProcesses:
    """Running jobs. A signal for this process goes to all of them, and none is started after it."""

    def __init__(self, variables: Mapping[str, str], lock_descriptor: int) -> None:
        self.stopped = False
        self._variables = variables
        self._inherited = [lock_descriptor] if lock_descriptor >= 0 else []
        self._lock = threading.RLock()  # a second signal may arrive while the first is forwarded
        self._running: set[subprocess.Popen[bytes]] = set()

    def start(self, spec: JobSpec, console: IO[bytes]) -> subprocess.Popen[bytes] | None:
        """Start a job in a process group of its own; return None after a signal.

        The job inherits the environment's lock: if this process is killed, the lock is held until
        the job has ended.
        """
        with self._lock:
            if self.stopped:
                return None
            number = {"OFFLINE_BUNDLE_JOB": str(spec.number)}
            process = subprocess.Popen(
                spec.command,
                cwd=spec.directory,
                env={**self._variables, **spec.variables, **number},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                pass_fds=self._inherited,
                process_group=0,
            )
            self._running.add(process)
            return process

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for a job; free its process id only when no signal can be sent to it any more."""
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._running.discard(process)
            return process.wait()

    @contextlib.contextmanager
    def forward_signals(self) -> Iterator[None]:
        """Forward SIGINT and SIGTERM to the jobs; only the main thread receives signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self._receive)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self, number: int) -> None:
        """Send signal *number* to the jobs; kill them after the grace period or a second call."""
        if self.stopped:
            self._send(signal.SIGKILL)
            return
        self.stopped = True
        self._send(number)
        killer = threading.Timer(_GRACE_SECONDS, self._send, [signal.SIGKILL])
        killer.daemon = True  # this process may exit as soon as all jobs have ended
        killer.start()

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.stop(number)

    def _send(self, number: int) -> None:
        with self._lock:
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
