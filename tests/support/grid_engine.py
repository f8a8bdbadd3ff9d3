"""A real Grid Engine for a test: qmaster and one execution host on this machine, in namespaces.

Its network has only loopback, with an address of its own that its host name has: Grid Engine
refuses 127.0.0.1. Its processes end with the process that keeps the namespace open.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.support.clusters import START_SECONDS, Cluster, require_root
from tests.support.programs import require

if TYPE_CHECKING:
    from collections.abc import Iterable

_PROGRAMS = ("sge_qmaster", "sge_execd", "qsub", "qstat", "qacct", "ip")
_COMMANDS = ("qsub", "qstat", "qdel", "qacct", "qconf", "qmod", "qhost")
_SHARED = Path("/usr/share/gridengine")

_PARALLEL_ENVIRONMENT = """\
pe_name            smp
slots              999
user_lists         NONE
xuser_lists        NONE
start_proc_args    NONE
stop_proc_args     NONE
allocation_rule    $pe_slots
control_slaves     FALSE
job_is_first_task  TRUE
urgency_slots      min
accounting_summary FALSE
qsort_args         NONE
"""

_QUEUE = {
    "qname": "main.q",
    "hostlist": "gridhost",
    "slots": "{slots}",
    "shell": "/bin/sh",
    "shell_start_mode": "unix_behavior",
    "pe_list": "smp",
    "load_thresholds": "NONE",
}
_SCHEDULER = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}
_CONFIGURATION = {
    "execd_spool_dir": "{folder}/execd",
    "min_uid": "0",
    "min_gid": "0",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:15 "
    "accounting_flush_time=00:00:00 joblog=false sharelog=00:00:00",
}
_BOOTSTRAP = {
    "admin_user": "root",
    "spooling_params": "{folder}/spooldb",
    "qmaster_spool_dir": "{folder}/qmaster",
}

_SUPERVISOR = """\
ip link set lo up && ip address add 10.11.12.1/32 dev lo || exit 1
hostname gridhost && mount --bind "$1/hosts" /etc/hosts || exit 1
lib=/usr/lib/gridengine
"$lib/spoolinit" berkeleydb libspoolb "$1/spooldb" init || exit 1
"$lib/spooldefaults" configuration "$1/configuration" || exit 1
"$lib/spooldefaults" complexes /usr/share/gridengine/util/resources/centry || exit 1
"$lib/spooldefaults" usersets /usr/share/gridengine/util/resources/usersets || exit 1
"$lib/spooldefaults" managers root || exit 1
sge_qmaster || exit 1
tries=300
until qconf -sh >/dev/null 2>&1; do [ $((tries -= 1)) -gt 0 ] || exit 1; sleep 0.1; done
qconf -as gridhost
sge_execd
qconf -Ap "$1/pe"
qconf -sq | sed -f "$1/queue.sed" >"$1/queue" && qconf -Aq "$1/queue"
qconf -ssconf | sed -f "$1/scheduler.sed" >"$1/scheduler" && qconf -Msconf "$1/scheduler"
touch "$1/started"
read -r _
"""


class GridEngine(Cluster):
    """A context manager: it starts the cluster, and ends it."""

    def __init__(self, folder: Path, *, slots: int = 4) -> None:
        super().__init__(folder)
        self._slots = slots

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs in its environment to be a user of this cluster."""
        path = f"{self.folder / 'bin.user'}{os.pathsep}{os.environ['PATH']}"
        return {**self._own_variables, "PATH": path}

    @property
    def _own_variables(self) -> dict[str, str]:
        ports = {"SGE_QMASTER_PORT": "6444", "SGE_EXECD_PORT": "6445"}
        return {"SGE_ROOT": str(self.folder), "SGE_CELL": "default", **ports}

    def __enter__(self) -> Self:
        require(*_PROGRAMS)
        require_root()
        self._write_files()
        namespaces = ("net", "pid", "uts", "mount")
        process = self.start_supervisor(namespaces, _SUPERVISOR, [], self._own_variables)
        try:
            enter = (
                f"process=$(cat /proc/{process}/task/{process}/children)\n"
                "exec nsenter --target ${process%% *} --net --uts --mount --"
            )
            self.write_commands(self.folder / "bin.user", _COMMANDS, enter)
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self) -> None:
        """Wait until the host has reported its load: it then takes jobs."""
        limit = time.monotonic() + START_SECONDS
        assert self.process
        while time.monotonic() < limit:
            assert self.process.poll() is None, self.tell()
            if (self.folder / "started").exists() and " lx-" in self.ask("qhost"):
                return
            time.sleep(0.1)
        pytest.fail(f"Grid Engine did not start\n{self.tell()}")

    def _write_files(self) -> None:
        for name in ("default/common", "spooldb", "qmaster/job_scripts", "execd", "bin.user"):
            (self.folder / name).mkdir(parents=True)
        for name in ("bin", "utilbin", "lib", "util"):
            (self.folder / name).symlink_to(f"/var/lib/gridengine/{name}")
        common = self.folder / "default" / "common"
        (common / "bootstrap").write_text(
            self._changed((_SHARED / "default-bootstrap").read_text(), _BOOTSTRAP)
        )
        (self.folder / "configuration").write_text(
            self._changed((_SHARED / "default-configuration").read_text(), _CONFIGURATION)
        )
        (common / "act_qmaster").write_text("gridhost\n")
        (self.folder / "hosts").write_text("10.11.12.1 gridhost\n127.0.0.1 localhost\n")
        (self.folder / "pe").write_text(_PARALLEL_ENVIRONMENT)
        for name, settings in (("queue", _QUEUE), ("scheduler", _SCHEDULER)):
            text = "".join(
                f"s|^{key} .*|{key} {value.format(slots=self._slots)}|\n"
                for key, value in settings.items()
            )
            (self.folder / f"{name}.sed").write_text(text)

    def _changed(self, text: str, settings: dict[str, str]) -> str:
        lines = []
        for line in text.splitlines():
            name = line.partition(" ")[0]
            value = settings.get(name)
            lines.append(f"{name} {value.format(folder=self.folder)}" if value else line)
        return "\n".join([*lines, ""])

    def logs(self) -> Iterable[Path]:
        """Those of the supervisor and of the master."""
        return [self.folder / "supervisor.log", *self.folder.glob("qmaster/messages")]
