"""loopwatch.py - how long an event loop was not there for others, from the kernel's own trace.

A turn of the loop is from the end of one epoll_wait(2) to the beginning of the next. On a machine that
is busy a turn also holds time in which the process was ready to run and another one ran; that is the
scheduler's, not the loop's, so it is taken off: from sched_waking, or from being switched out while
running, until it is switched in again. What is left is computing and waiting for what it asked for.

Needs perf and its tracepoints, as root; available() says why not.
"""
import os
import re
import shutil
import signal
import subprocess
import time

# epoll_wait, epoll_pwait, epoll_pwait2: x86-64's and arm64's numbers.
WAITS = {"x86_64": {232, 281, 441}, "aarch64": {22, 441}}.get(os.uname().machine, set())
LINE = re.compile(r"^\s*(\d+\.\d+):\s+(\S+):(\S+): (.*)$")


def available():
    """None when the trace can be had; else why not."""
    if not shutil.which("perf"):
        return "perf is not installed"
    if not WAITS:
        return "the numbers of this machine's system calls are not known"
    probe = subprocess.run(["perf", "record", "-q", "-a", "-o", "/dev/null", "-e", "raw_syscalls:sys_enter", "--",
                            "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return None if probe.returncode == 0 else "perf may not record here"


class Turn:
    def __init__(self, begin):
        self.begin, self.end, self.ready = begin, begin, 0.0
        self.calls = []  # (duration, name)

    def ms(self):
        return (self.end - self.begin - self.ready) * 1e3


class Trace:
    """Records PID until stop(), which gives the turns."""

    def __init__(self, pid, path):
        self.path, self.pid = path, pid
        events = []
        for event, which in (("raw_syscalls:sys_enter", f"common_pid=={pid}"),
                             ("raw_syscalls:sys_exit", f"common_pid=={pid}"),
                             ("sched:sched_switch", f"prev_pid=={pid}||next_pid=={pid}"),
                             ("sched:sched_waking", f"pid=={pid}")):
            events += ["-e", event, "--filter", which]
        self.proc = subprocess.Popen(["perf", "record", "-q", "-a", "-m", "1024", "-o", path] + events,
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
        time.sleep(0.5)  # it has begun

    def stop(self):
        self.proc.send_signal(signal.SIGINT)
        self.proc.wait(60)
        out = subprocess.run(["perf", "script", "-i", self.path, "-F", "time,event,trace"], capture_output=True,
                             text=True, check=True).stdout
        os.unlink(self.path)
        return turns(out, self.pid)


def turns(text, pid):
    """The turns that began and ended in TEXT, perf script's."""
    done, turn, ready_since, entered = [], None, None, None
    for line in text.splitlines():
        found = LINE.match(line)
        if not found:
            continue
        at, what, rest = float(found.group(1)), found.group(3), found.group(4)
        if what == "sys_exit":
            number = int(rest.split()[1])
            if number in WAITS:
                turn = Turn(at)
            elif turn and entered:
                turn.calls.append((at - entered[1], number))
            entered = None
        elif what == "sys_enter":
            number = int(rest.split()[1])
            entered = (number, at)
            if number in WAITS and turn:
                turn.end = at
                done.append(turn)
                turn = None
        elif what == "sched_waking":
            ready_since = at
        elif f"next_pid={pid} " in rest + " ":
            if turn and ready_since is not None:
                turn.ready += at - max(ready_since, turn.begin)
            ready_since = None
        elif f"prev_pid={pid} " in rest:
            running = re.search(r"prev_state=(\S+)", rest).group(1).startswith("R")
            ready_since = at if running else None
    return done
