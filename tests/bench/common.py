"""common.py - what every benchmark needs: a private agent, its memory, time and wake-ups, and a line."""
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time


def say(name, value, unit="ms", note=""):
    print(f"{name:<58} {value:>9.3f} {unit:<4} {note}", flush=True)


def network():
    """Addresses that no other agent on this host has: there may be two, and the tests'."""
    n = random.randrange(1024)
    return ["-o", f"network.ipv4_range=10.{128 + n // 16}.{n % 16 * 16}.0/20",
            "-o", f"network.ipv6_range=fd64:796e:6f64:{0x2000 + n:x}::/64"]


class Agent:
    """One private dynod with directories of its own."""

    def __init__(self, build, log, options=()):
        self.dir = tempfile.mkdtemp(prefix="dynod-bench-")
        self.run = tempfile.mkdtemp(prefix="dynod-bench-", dir="/dev/shm")  # tmpfs, as /run is
        for path in (self.dir, self.run):
            os.chmod(path, 0o755)
        self.sock = self.run + "/api.sock"
        self.level = os.path.basename(self.run)  # of the cgroup trees
        self.argv = [build + "/bin/dynod", "-c", "/dev/null", "-o", f"agent.runtime_dir={self.run}",
                     "-o", f"agent.state_dir={self.dir}/state", "-o", "agent.log_level=warning",
                     "-o", "agent.claims_dir=",
                     "-o", "dyno.restart_reset=10ms",
                     # a thousand dynos' quotas have to fit on the disk
                     "-o", "size.standard-1x.disk=16M", "-o", "size.standard-1x.inodes=2048",
                     "-o", f"agent.cgroup_parent=/{self.level}"] + network()
        for option in options:
            self.argv += ["-o", option]
        self.log = log
        self.launch()
        deadline = time.time() + 10
        while not os.path.exists(self.sock):
            if time.time() > deadline or self.proc.poll() is not None:
                self.stop()
                sys.exit("bench: dynod did not start: see its log in the build's bench folder")
            time.sleep(0.01)

    def launch(self):
        self.proc = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def connect(self):
        s = socket.socket(socket.AF_UNIX)
        s.connect(self.sock)
        return s

    def request(self, method, path, body=None):
        s = self.connect()
        data = json.dumps(body).encode() if body is not None else b""
        s.sendall(f"{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n"
                  f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        out = b""
        while chunk := s.recv(65536):
            out += chunk
        head, _, text = out.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status >= 300:
            sys.exit(f"bench: {method} {path}: {status} {text.decode()}")
        return json.loads(text) if text.strip() else None

    def wait(self, what, count, state, timeout=60):
        deadline = time.time() + timeout
        while True:
            dynos = self.request("GET", f"/v1/dynos?app={what}")
            if sum(d["state"] == state for d in dynos) >= count and (count or not dynos):
                return dynos
            if time.time() > deadline:
                sys.exit(f"bench: {what} did not get to {count} {state}: "
                         f"{[(d['dyno'], d['state']) for d in dynos][:5]}")
            time.sleep(0.02)

    def wait_up(self, count, timeout=300):
        """Until COUNT dynos of all apps are up (0: until there is none of any state). Asks for numbers only: what each
        dyno uses is read from the kernel, which takes as long as starting some."""
        deadline = time.time() + timeout
        while True:
            status = self.request("GET", "/v1/status")
            if status["up"] >= count if count else not status["dynos"]:
                return
            if time.time() > deadline:
                sys.exit(f"bench: did not get to {count} dynos: {status}")
            time.sleep(0.01)

    def empty(self, *apps):
        """Ends all dynos of APPS."""
        for app in apps:
            try:
                self.request("DELETE", f"/v1/apps/{app}")
            except SystemExit:
                pass
        time.sleep(0.5)

    def stop(self):
        self.proc.send_signal(signal.SIGTERM)
        self.proc.wait(20)
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.rmtree(self.run, ignore_errors=True)


def rollup(pid, key):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if re.match(key, line))


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return int(f.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def cpu_ms(pid):
    """User and system time of PID so far; a tick of the kernel's clock is 10 ms."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e3 / os.sysconf("SC_CLK_TCK")


def scheduled_ms(pids):
    """CPU time so far, to the nanosecond."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e6


def voluntary(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"voluntary_ctxt_switches:\s+(\d+)", f.read()).group(1))
