"""One command, measured from outside: wall, processor time of the whole process tree, its peak of memory, other load.

Linux only, by /proc. Added here: a figure of a run. Not here: which commands, medians or tables.
"""

import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

TICK = 1 / os.sysconf("SC_CLK_TCK")
INTERVAL_S = 0.1
SAMPLER_SHARE = 0.05
"""Looking at a big process takes long; the sampler rests so that it takes no more than this of one core."""
PATIENCE_S = 10
PR_SET_CHILD_SUBREAPER = 36


class RunFailed(Exception):
    """A command ended badly; says its last lines."""


@dataclass(frozen=True)
class Measurement:
    """Seconds of wall and processor, the peak of proportional set size in MB, and cores that others were using."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    other_cores: float


@dataclass
class Sampler:
    """Watches all descendants of this process: their processor time, as last seen, and their memory at its peak."""

    peak_mb: float = 0.0
    ticks: dict[tuple[int, int], int] = field(default_factory=dict)
    before: dict[tuple[int, int], int] = field(default_factory=dict)
    stopped: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        """Note what daemons of earlier commands have used."""
        self.before = {(process, started): ticks for process, started, ticks in descendants(os.getpid())}

    def watch(self) -> None:
        """Sample until `stopped`."""
        while not self.stopped.is_set():
            begun = time.thread_time()
            self.sample()
            self.stopped.wait(max(INTERVAL_S, (time.thread_time() - begun) / SAMPLER_SHARE))

    def sample(self) -> None:
        """Look once."""
        memory = 0.0
        for process, started, ticks in descendants(os.getpid()):
            self.ticks[process, started] = ticks
            memory += pss_mb(process)
        self.peak_mb = max(self.peak_mb, memory)

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all that was seen."""
        return sum(ticks - self.before.get(key, 0) for key, ticks in self.ticks.items()) * TICK


def measure(command: Sequence[str], environ: Mapping[str, str], log: Path, leave_daemons: bool = False) -> Measurement:
    """Run `command` to its end, output to `log`; raises RunFailed.

    Processor time is the greater of what the kernel says of ended children and what the sampler saw: the first misses
    processes that nobody waited for, the second up to a tenth of a second of each.
    """
    adopt_orphans()
    sampler = Sampler()
    busy, own, begun = busy_s(), own_cpu_s(), time.perf_counter()
    with log.open("wb") as output:
        child = subprocess.Popen(command, env=dict(environ), stdout=output, stderr=subprocess.STDOUT)
        thread = Thread(target=sampler.watch)
        thread.start()
        status = child.wait()
        wall = time.perf_counter() - begun
        sampler.stopped.set()
        thread.join()
    if not leave_daemons:
        reap_orphans()
    if status:
        raise RunFailed(f"{' '.join(command[:4])} ended with {status}:\n" + log.read_text(errors="replace")[-2000:])
    after = own_cpu_s()
    cpu = max(after.children - own.children, sampler.cpu_s)
    others = busy_s() - busy - cpu - (after.self - own.self)
    elapsed = time.perf_counter() - begun
    return Measurement(wall, cpu, sampler.peak_mb, max(0.0, others / elapsed))


@dataclass(frozen=True)
class OwnCpu:
    """Processor seconds of this process and of its ended children."""

    self: float
    children: float


def own_cpu_s() -> OwnCpu:
    """As the kernel says now."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return OwnCpu(*(usage.ru_utime + usage.ru_stime for usage in usages))


def busy_s() -> float:
    """Seconds that all cores together were not idle since the machine started; waiting for a disk is idle."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * TICK


def adopt_orphans() -> None:
    """Make processes that their parents leave behind children of this one, so that none is lost from sight."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(patience_s: float = PATIENCE_S) -> None:
    """Wait for what commands left behind, and end what does not end by itself for so long."""
    deadline, warned = time.monotonic() + patience_s, False
    while True:
        try:
            process, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0 and time.monotonic() > deadline:
            for left, *_ in descendants(os.getpid()):
                os.kill(left, signal.SIGKILL if warned else signal.SIGTERM)
            deadline, warned = time.monotonic() + PATIENCE_S, True
        if process == 0:
            time.sleep(0.02)


def descendants(ancestor: int) -> list[tuple[int, int, int]]:
    """(process, start, ticks used) of every living descendant."""
    known = {process: (parent, start, ticks) for process, parent, start, ticks in _processes()}
    found: list[tuple[int, int, int]] = []
    parents = {ancestor}
    while parents:
        children = {process for process, (parent, *_) in known.items() if parent in parents}
        found += [(process, *known[process][1:]) for process in children]
        parents = children
    return found


def _processes() -> Iterator[tuple[int, int, int, int]]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                said = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            # The name, in brackets, may hold anything.
            values = said.rpartition(")")[2].split()
            yield int(entry), int(values[1]), int(values[19]), int(values[11]) + int(values[12])


def pss_mb(process: int) -> float:
    """Proportional set size: shared pages are counted once over all that share them. 0 of a process that ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)
