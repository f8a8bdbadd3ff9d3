"""A real Slurm for a test: controller, munge and several nodes on this machine, in namespaces.

Its network has only loopback, so jobs are offline and ports are free. Its processes have their own
process namespace: they end with the process that keeps it open, also if a test is killed.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.support.clusters import START_SECONDS, Cluster, require_root
from tests.support.programs import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "ip")
_ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacctmgr")
_COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sacct", "sinfo")

_CONFIGURATION = """\
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=6817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1,default_queue_depth=10000
SlurmdParameters=config_overrides
SlurmdTimeout={node_timeout}
BatchStartTimeout={start_timeout}
KillWait=1
ReturnToService=2
MaxArraySize={max_array_size}
NodeName=n[1-{nodes}] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[6818-{last_port}] \\
    CPUs={cpus} RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

_MEMORY_BY_SAMPLES = """\
TaskPlugin=task/none
JobAcctGatherParams=OverMemoryKill
"""
_MEMORY_BY_CGROUPS = """\
TaskPlugin=task/cgroup
"""
_CGROUPS = Path("/sys/fs/cgroup/memory")
_CGROUP_CONFIGURATION = """\
CgroupPlugin=cgroup/v1
ConstrainRAMSpace=yes
"""

_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=6816
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations,limits,qos
MinJobAge=2
"""
_ACCOUNTING_DAEMON = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=6816
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=3306
StorageUser=slurm
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""
_ACCOUNTING_USER = """\
CREATE USER slurm@'127.0.0.1';
GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';
"""

# 127.0.0.2: with 127.0.0.1 as the only address, the C library does not look names up.
_SUPERVISOR = """\
ip link set lo up && ip address add 127.0.0.2/8 dev lo || exit 1
munged --foreground --force --key-file="$1/munge.key" --socket="$1/munge.socket" \\
    --pid-file="$1/munged.pid" --log-file="$1/munged.log" --seed-file="$1/munge.seed" \\
    >/dev/null 2>&1 &
await() {
    tries=300
    until "$@" >/dev/null 2>&1; do [ $((tries -= 1)) -gt 0 ] || exit 1; sleep 0.1; done
}
if [ -f "$1/slurmdbd.conf" ]; then
    mariadb-install-db --no-defaults --datadir="$1/data" --skip-test-db --user=root \\
        >"$1/database.log" 2>&1
    mariadbd --no-defaults --datadir="$1/data" --socket="$1/database.socket" \\
        --bind-address=127.0.0.1 --skip-name-resolve --user=root --init-file="$1/user.sql" \\
        --pid-file="$1/db.pid" >>"$1/database.log" 2>&1 &
    await test -S "$1/database.socket"
    slurmdbd -D >/dev/null 2>&1 &
    await sacctmgr --immediate add cluster tests
    sacctmgr --immediate add account science >/dev/null
    sacctmgr --immediate add qos few MaxSubmitJobsPerUser=3 >/dev/null
    sacctmgr --immediate add user root account=science qos=normal,few >/dev/null
fi
control() { slurmctld -D "$@" >/dev/null 2>&1 & controller=$!; }
control -c
start() {
    unshare --mount sh -c '. "$2/mounts.sh" && exec slurmd -D -N "$1"' node "$1" "$folder" \\
        >>"$folder/mounts.log" 2>&1 &
    eval "node_$1=$!"
}
folder=$1
for node in $2; do start "$node"; done
while read -r action node command; do
    case $action in
        kill) eval "kill -9 \\$node_$node" ;;
        start) start "$node" ;;
        kill-controller) kill -9 $controller ;;
        start-controller) control ;;
        run)
            eval "process=\\$node_$node"
            nsenter --mount="/proc/$process/ns/mnt" -- sh -c "$command" >"$1/said" 2>&1
            echo $? >"$1/code.new" && mv "$1/code.new" "$1/code"
            ;;
    esac
done
"""


class SlurmCluster(Cluster):
    """A context manager: it starts the cluster, and ends it.

    With *accounting*, root may use the account `science`, with the QOS `few`: three jobs at a time.
    Slurm itself then forgets jobs a minute or two after their end. With *cgroups* the kernel limits
    the memory of jobs; otherwise Slurm checks it every second. *mounts* are shell commands that each
    node's daemon runs before it starts, in a mount namespace of its own. A node that is silent for
    *node_timeout* seconds is down, and its jobs are requeued: on a busy machine, too.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 2,
        cpus: int = 4,
        max_array_size: int = 1001,
        accounting: bool = False,
        cgroups: bool = False,
        mounts: str = "",
        node_timeout: int = 60,
    ) -> None:
        super().__init__(folder)
        self._node_timeout = node_timeout
        self._mounts = mounts
        self._has_cgroups = cgroups
        self._has_accounting = accounting
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self._cpus = cpus
        self._max_array_size = max_array_size

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs in its environment to be a user of this cluster."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def __enter__(self) -> Self:
        require(*_PROGRAMS, *(_ACCOUNTING_PROGRAMS if self._has_accounting else ()))
        require_root()
        if self._has_cgroups and not os.access(_CGROUPS / "cgroup.procs", os.W_OK):
            pytest.skip("this machine's kernel offers no control group of version 1 for memory")
        self._write_files()
        variables = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        nodes = " ".join(self.nodes)
        process = self.start_supervisor(("net", "pid"), _SUPERVISOR, [nodes], variables)
        try:
            network = f"/proc/{process}/ns/net"  # jobs are in it: they see other processes
            enter = f'[ -e {network} ] || exec REAL "$@"\nexec nsenter --net={network} --'
            self.write_commands(self.folder / "bin", _COMMANDS, enter)
            self.wait_for_nodes(self.nodes)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._has_cgroups:
            for node in self.nodes:
                for group, _, _ in os.walk(_CGROUPS / f"slurm_{node}", topdown=False):
                    Path(group).rmdir()

    def kill_node(self, node: str) -> None:
        """Kill a node's daemon. Its jobs continue, as on a node whose network is cut."""
        self._tell_supervisor(f"kill {node}")

    def start_node(self, node: str) -> None:
        """Start a node's daemon again."""
        self._tell_supervisor(f"start {node}")
        self.wait_for_nodes([node])

    def kill_controller(self) -> None:
        """Kill the controller, as a power cut does."""
        self._tell_supervisor("kill-controller")

    def start_controller(self) -> None:
        """Start the controller again, with the state that it saved."""
        self._tell_supervisor("start-controller")
        self.wait_for_nodes(self.nodes[:1])

    def run_on_node(self, node: str, command: str) -> str:
        """Run a shell command in the mount namespace of a node; return its output."""
        code = self.folder / "code"
        code.unlink(missing_ok=True)
        self._tell_supervisor(f"run {node} {command}")
        limit = time.monotonic() + START_SECONDS
        while not code.exists():
            assert time.monotonic() < limit, command
            time.sleep(0.02)
        output = (self.folder / "said").read_text()
        assert code.read_text() == "0\n", f"{command} on {node}: {output}"
        return output

    def wait_for_nodes(self, nodes: Sequence[str]) -> None:
        """Wait until these nodes take jobs."""
        limit = time.monotonic() + START_SECONDS
        command = ["sinfo", "--noheader", "--Node", f"--nodes={','.join(nodes)}", "--format=%t"]
        said = ""
        while time.monotonic() < limit:
            done = self.run(*command)
            said = done.stdout + done.stderr
            states = done.stdout.split()
            if len(states) == len(nodes) and {"idle", "mix", "alloc", "comp"} >= set(states):
                return
            assert self.process
            assert self.process.poll() is None, self.tell()
            time.sleep(0.1)
        pytest.fail(f"Slurm did not start: {said}\n{self.tell()}")

    def _tell_supervisor(self, line: str) -> None:
        assert self.process
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def _write_files(self) -> None:
        for name in ("state", "bin", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True)
        text = _CONFIGURATION.format(
            folder=self.folder,
            nodes=len(self.nodes),
            last_port=6817 + len(self.nodes),
            cpus=self._cpus,
            max_array_size=self._max_array_size,
            node_timeout=self._node_timeout,
            start_timeout=max(10, self._node_timeout),
        )
        text += _MEMORY_BY_CGROUPS if self._has_cgroups else _MEMORY_BY_SAMPLES
        (self.folder / "cgroup.conf").write_text(_CGROUP_CONFIGURATION if self._has_cgroups else "")
        if self._has_accounting:
            text += _ACCOUNTING.format(folder=self.folder)
            daemon = self.folder / "slurmdbd.conf"
            daemon.write_text(_ACCOUNTING_DAEMON.format(folder=self.folder))
            daemon.chmod(0o600)
            (self.folder / "user.sql").write_text(_ACCOUNTING_USER)
        else:
            text += "AccountingStorageType=accounting_storage/none\n"
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "mounts.sh").write_text(f"{self._mounts}\n")
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)

    def logs(self) -> Iterable[Path]:
        """Those of the daemons."""
        return sorted(self.folder.glob("*.log"))
