"""`ApplicationExecution`, as execution scripts subclass it."""  # noqa: INP001 - `ansys` has other parts elsewhere

from __future__ import annotations

import contextlib
import sys

from ansys.rep.common.logging import log  # type: ignore[import-untyped]

TYPE_CHECKING = False  # `typing` is slow to import, and this starts once for each task
if TYPE_CHECKING:
    from typing import Any


class Context:
    """The context of a task; scripts change `parameter_values` in place."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.input_files: list[dict[str, Any]] = document["input_files"]
        self.output_files: list[dict[str, Any]] = document["output_files"]
        self.software: list[dict[str, Any]] = document["software"]
        self.environment: dict[str, str] = document["environment"]
        self.parameter_values: dict[str, Any] = document["parameter_values"]
        self.output_parameters: list[dict[str, Any]] = document["output_parameters"]
        """Name and type of the parameters that the task has to provide."""
        self.resource_requirements: dict[str, Any] = document["resource_requirements"]
        self.execution_context: dict[str, Any] = document["execution_context"]
        self.expected_return_code: int = document["expected_return_code"]
        self.return_code: int | None = None
        """Return code of the last command."""
        self.executed_command: str | None = None


class CommandError(RuntimeError):
    """A command ended with another return code than the expected one."""


class ApplicationExecution:
    """The base class: a subclass implements `execute`."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def execute(self) -> None:
        """Run the application."""
        raise NotImplementedError

    def run_and_capture_output(
        self,
        cmd: str | list[str],
        shell: bool = True,  # noqa: FBT001, FBT002 - scripts know it so
        env: dict[str, str] | None = None,
        **options: Any,  # noqa: ANN401 - those of subprocess.run
    ) -> int:
        """Run a command; raise if the return code is not the expected one."""
        import subprocess  # noqa: PLC0415 - the same

        sys.stdout.flush()
        self.context.executed_command = (
            cmd if isinstance(cmd, str) else subprocess.list2cmdline(cmd)
        )
        log.debug("Run %s", self.context.executed_command)
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stderr", subprocess.STDOUT)
        done = subprocess.run(
            cmd, shell=shell and isinstance(cmd, str), env=env, check=False, **options
        )
        self.context.return_code = done.returncode
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        if done.returncode != self.context.expected_return_code:
            raise CommandError(f"The command ended with return code {done.returncode}")
        return done.returncode
