"""The entry point of `run.py`: a warm start, else a cold start."""

import os
import sys

from .warm_start import start_from_record


def main(bundle: str = "", modules: str = "") -> int:
    """Start the script that the command line names; return the exit code if it was not started.

    *bundle* is the default of `--bundle`: the folder of run.py. *modules* is a file in runtime/
    there, with the modules that fit run.py.
    """
    arguments = sys.argv[1:]
    if sys.platform != "win32":
        _occupy_closed_streams()
        try:
            start_from_record(arguments, bundle)
        except (OSError, ValueError):
            pass  # the cold start finds the cause and reports it
    if sys.version_info < (3, 9):  # noqa: UP036 - the site may have an older one first on PATH
        from .old_python import restart_with_newer_python

        restart_with_newer_python()
    # why here: a warm start must not import what only a cold start needs
    try:
        from .modules import use_modules_file

        use_modules_file(bundle, modules)
        from .cold_start import main as cold_start
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 - a cut or changed file may raise anything
        folder = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "runtime")
        fault = "is incomplete" if isinstance(error, ImportError) else "is damaged"
        print(f"error: {folder} {fault}: {error}", file=sys.stderr)
        print("hint: copy the folder runtime/ of the bundle beside run.py", file=sys.stderr)
        return 1
    return cold_start(arguments, bundle)


def _occupy_closed_streams() -> None:
    """Open /dev/null where stdin, stdout or stderr is closed.

    The next file that is opened, such as a lock, would become that stream. The script gets its
    streams as they were: these descriptors are not inherited.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


if __name__ == "__main__":
    sys.exit(main())
