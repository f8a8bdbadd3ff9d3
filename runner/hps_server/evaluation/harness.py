"""Run one task: `python harness.py SHIM CONTEXT RESULT`, in the directory of the task.

Loads the execution script, runs it, and writes its result to RESULT. When standard input ends, the
server has exited: then the whole process group is killed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import threading
from pathlib import Path

TYPE_CHECKING = False  # `typing` is slow to import, and this starts once per task
if TYPE_CHECKING:
    from typing import Any


def main(shim: str, context_file: str, result_file: str) -> int:
    """Run the task; return the exit code, 0 if the script succeeded."""
    sys.path.insert(0, shim)
    from ansys.rep.evaluator.task_manager import Context  # type: ignore[import-untyped]  # noqa: PLC0415

    document = json.loads(Path(context_file).read_text())
    context = Context(document)
    error = None
    try:
        script = document["execution_script"]
        execution = _load(script) if script else _command_class(document)
        execution(context).execute()
    except BaseException as failure:  # noqa: BLE001 - any exception fails the task, SystemExit too
        if not _is_of_command(failure):
            import traceback  # noqa: PLC0415

            traceback.print_exc()
        error = f"{type(failure).__name__}: {failure}"
    result = {
        "error": error,
        "return_code": context.return_code,
        "executed_command": context.executed_command,
        "parameter_values": context.parameter_values,
    }
    Path(result_file).write_text(json.dumps(result, default=str))
    return int(error is not None)


def _is_of_command(failure: BaseException | None) -> bool:
    """Return True if a command failed: it has printed why, and a traceback would hide that."""
    from ansys.rep.evaluator.task_manager import CommandError  # noqa: PLC0415

    while failure is not None and not isinstance(failure, CommandError):
        failure = failure.__cause__ or failure.__context__
    return failure is not None


def _load(path: str) -> type[Any]:
    """Return the subclass of ApplicationExecution that the script defines."""
    from ansys.rep.evaluator.task_manager import ApplicationExecution  # noqa: PLC0415

    specification = importlib.util.spec_from_file_location("execution_script", path)
    if specification is None or specification.loader is None:
        raise ImportError(f"{path} is not a Python file")
    sys.dont_write_bytecode = True
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    specification.loader.exec_module(module)
    for found in vars(module).values():
        if (
            isinstance(found, type)
            and issubclass(found, ApplicationExecution)
            and found is not ApplicationExecution
        ):
            return found
    raise TypeError(f"{path} defines no subclass of ApplicationExecution")


def _command_class(document: dict[str, Any]) -> type[Any]:
    """Return a class that runs the execution command with its `%…%` fields replaced."""
    from ansys.rep.evaluator.task_manager import ApplicationExecution  # noqa: PLC0415

    software = document["software"]
    known = {"%executable%": software[0]["executable"] if software else ""}
    known |= {f"%file:{file['name']}%": file["path"] for file in document["input_files"]}
    resources = document["resource_requirements"].items()
    known |= {f"%resource:{name}%": str(value) for name, value in resources}
    command = document["execution_command"] or ""
    for name, value in known.items():
        command = command.replace(name, value)

    class Command(ApplicationExecution):  # type: ignore[misc]  # its base is known at run time only
        def execute(self) -> None:
            environment = {**os.environ, **self.context.environment}
            self.run_and_capture_output(command, shell=True, env=environment)  # noqa: S604 - commands are shell's

    return Command


def _end_with_server() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_server, daemon=True).start()
    sys.exit(main(*sys.argv[1:]))
