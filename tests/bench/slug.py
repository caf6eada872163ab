#!/usr/bin/env python3
"""slug.py - what fetching a slug costs, beside `curl | tar xz`, in one run.

usage: slug.py BUILD_DIR [--rounds N] [--tiny N] [--only PART]...     (PART: speed, tiny, memory, link)

A slug is fetched from nginx on loopback. Both sides are measured in turns, round by round, each into
files that did not exist before, with nothing left to write from what came before. Figures are medians.
Ours begins with the request at the API and ends when a client hears that the slug is published.
As root it is what an instance does (an image, a crew with users of its own); as a user the fallback.
"""
import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import loopwatch  # noqa: E402
import slugs  # noqa: E402
from common import Agent, parent  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
RATE = "20m"  # nginx's limit_rate of the shaped link, for each connection
ROUND_TRIP_MS = 200
PATIENCE = 300
missed = []


def line(name, value, unit="", note=""):
    print(f"{name:<66} {value:>9.2f} {unit:<3} {note}", flush=True)


def judge(name, value, unit, target, better="<="):
    """A line with its target, and whether it was met."""
    good = value <= target if better == "<=" else value >= target
    if not good:
        missed.append(name)
    line(name, value, unit, f"target {better} {target:g} {unit}: {'met' if good else 'MISSED'}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Nginx:
    """One on loopback: the slugs as fast as they can be had, and each connection limited to RATE."""

    def __init__(self, home):
        self.dir = tempfile.mkdtemp(prefix="dynod-bench-nginx-")
        self.fast, self.limited = free_port(), free_port()
        temps = " ".join(f"{t}_temp_path {self.dir}/{t};" for t in
                         ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(self.dir + "/nginx.conf", "w") as f:
            f.write(f"""daemon off;
worker_processes 1;
pid {self.dir}/pid;
error_log {self.dir}/error.log;
{"user root;" if os.geteuid() == 0 else ""}
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; root {home}; {temps}
  server {{ listen 127.0.0.1:{self.fast}; }}
  server {{ listen 127.0.0.1:{self.limited}; limit_rate {RATE}; }}
}}
""")
        self.proc = subprocess.Popen(["nginx", "-p", self.dir, "-c", self.dir + "/nginx.conf", "-e",
                                      self.dir + "/error.log"], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_port(self.fast, self.proc, "nginx")

    def stop(self):
        self.proc.terminate()
        self.proc.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)


class SlowLink:
    """slowlink.py before nginx."""

    def __init__(self, target):
        self.port = free_port()
        self.proc = subprocess.Popen([sys.executable, HERE + "/slowlink.py", str(self.port), str(target),
                                      str(ROUND_TRIP_MS)])
        wait_port(self.port, self.proc, "the slow link")

    def stop(self):
        self.proc.kill()
        self.proc.wait()


def wait_port(port, proc, what):
    deadline = time.time() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.time() > deadline or proc.poll() is not None:
                sys.exit(f"bench: {what} did not start")
            time.sleep(0.02)


class Events:
    """The events of AGENT as they come."""

    def __init__(self, agent):
        self.conn = http.client.HTTPConnection("dynod")
        self.conn.sock = agent.connect()
        self.conn.sock.settimeout(PATIENCE)
        self.conn.request("GET", "/v1/events?follow=1&n=0")
        self.stream = self.conn.getresponse()

    def ended(self, fetch):
        """The last event of a fetch. Its progress is skipped."""
        while True:
            event = json.loads(self.stream.readline() or sys.exit("bench: the agent is gone"))
            if event.get("kind") != "fetch" or event.get("fetch") != fetch:
                continue
            if event["state"] == "failed":
                sys.exit(f"bench: the fetch failed: {event['text']}")
            if event["state"] == "done":
                return event


def url_of(port, slug):
    return f"http://127.0.0.1:{port}/{os.path.basename(slug.path)}"


def fetch(agent, events, slug, port):
    """Milliseconds from the request to the word that it is published, and the roles' own figures."""
    began = time.monotonic()
    told = agent.request("POST", "/v1/slugs", {"slug": url_of(port, slug), "digest": slug.digest})
    event = events.ended(told["fetch"])
    took = (time.monotonic() - began) * 1e3
    if event["digest"] != slug.digest or event["bytes"] != slug.bytes:
        sys.exit(f"bench: another slug came: {event}")
    return took, event.get("ms") or {}


def cached(agent, slug):
    return next((s for s in agent.request("GET", "/v1/slugs")["slugs"] if s["digest"] == slug.digest), None)


def wait_until(what, check):
    deadline = time.time() + PATIENCE
    while not check():
        if time.time() > deadline:
            sys.exit(f"bench: gave up waiting until {what}")
        time.sleep(0.02)


def forget(agent, slug):
    """As if it had never been fetched, and nothing of it still to be done."""
    wait_until("a slug is on the disk", lambda: cached(agent, slug)["synced"])
    agent.request("DELETE", "/v1/slugs/" + slug.digest)
    wait_until("a slug is removed", lambda: not os.listdir(agent.dir + "/state/trash"))


def calm(agent):
    """Nothing to be written, and a crew waits."""
    os.sync()
    wait_until("a crew waits", lambda: len(roles(agent)) >= 2)
    time.sleep(0.2)


def roles(agent):
    """pid: role of the dynod-fetch processes."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if parent(pid) != agent.proc.pid:
            continue
        try:
            with open(f"/proc/{pid}/cmdline") as f:
                argv = f.read().split("\0")
        except OSError:
            continue
        if argv[0] == "dynod-fetch":
            found[int(pid)] = argv[1]
    return found


class Share:
    """A cgroup for `curl | tar`, which has as much of the cpus as all that an agent starts: on a machine that
    is busy otherwise each process of theirs would count as much as our whole fetch."""

    def __init__(self):
        self.dir = None
        v2 = "/sys/fs/cgroup/cgroup.subtree_control"
        if os.path.exists("/sys/fs/cgroup/cpu/cpu.shares"):
            place = "/sys/fs/cgroup/cpu"
        elif os.path.exists(v2) and "cpu" in open(v2).read().split():
            place = "/sys/fs/cgroup"
        else:
            return
        try:
            os.mkdir(f"{place}/dynod-bench-theirs-{os.getpid()}")
        except OSError:
            return  # not root: ours is in no cgroup of its own either
        self.dir = f"{place}/dynod-bench-theirs-{os.getpid()}"

    def command(self):
        return f"echo 0 >{self.dir}/cgroup.procs; " if self.dir else ""

    def remove(self):
        if self.dir:
            os.rmdir(self.dir)


def curl_tar_ms(directory, slug, port, share):
    """`curl | tar xz` into a fresh directory. It stays until the end: ext4 looks long for an inode when many
    have just been deleted, which no fresh instance has."""
    into = tempfile.mkdtemp(prefix="tar-", dir=directory)
    began = time.monotonic()
    subprocess.run(["bash", "-o", "pipefail", "-c", share.command() + 'curl -sf "$1" | tar xz -C "$2"', "bash",
                    url_of(port, slug), into], check=True)
    return (time.monotonic() - began) * 1e3


def curl_ms(slug, port):
    began = time.monotonic()
    subprocess.run(["curl", "-sf", "-o", "/dev/null", url_of(port, slug)], check=True)
    return (time.monotonic() - began) * 1e3


def spread(values):
    return f"{min(values):.0f} to {max(values):.0f}"


def stages(name, all_ms):
    """Where the time went: what the roles measured themselves. They work at once, so it is no sum."""
    text = ", ".join(f"{key} {statistics.median(ms.get(key, 0) for ms in all_ms):.0f}" for key in all_ms[0])
    print(f"  {name}'s stages, ms: {text}", flush=True)


def bench_speed(agent, events, slug, nginx, share, rounds, target):
    theirs, ours, ratios, parts = [], [], [], []
    for _ in range(rounds):
        calm(agent)
        theirs.append(curl_tar_ms(agent.dir, slug, nginx.fast, share))
        calm(agent)
        took, ms = fetch(agent, events, slug, nginx.fast)
        ours.append(took)
        parts.append(ms)
        ratios.append(theirs[-1] / took)
        forget(agent, slug)
    line(f"{slug.name}: curl | tar xz", statistics.median(theirs), "ms", spread(theirs))
    line(f"{slug.name}: request -> published", statistics.median(ours), "ms", spread(ours))
    judge(f"{slug.name}: so many times as fast", statistics.median(ratios), "x", target, ">=")
    stages(slug.name, parts)


def bench_tiny(agent, events, slug, nginx, share, rounds):
    theirs, ours, parts = [], [], []
    for _ in range(rounds):
        calm(agent)
        theirs.append(curl_tar_ms(agent.dir, slug, nginx.fast, share))
        took, ms = fetch(agent, events, slug, nginx.fast)
        ours.append(took)
        parts.append(ms)
        forget(agent, slug)
    line(f"{slug.name}: curl | tar xz", statistics.median(theirs), "ms", spread(theirs))
    judge(f"{slug.name}: request -> published", statistics.median(ours), "ms", 10)
    line("  90th percentile", sorted(ours)[len(ours) * 9 // 10], "ms")
    stages(slug.name, parts)


class Memory:
    """The most memory that each process of a crew had at once, read again and again while it runs."""

    def __init__(self, pids):
        self.most = {}
        self.pids, self.over = pids, False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over:
            for pid, role in self.pids.items():
                try:
                    with open(f"/proc/{pid}/status") as f:
                        kb = next((int(l.split()[1]) for l in f if l.startswith("VmHWM")), 0)
                except OSError:
                    continue
                self.most[role] = max(self.most.get(role, 0), kb / 1024)
            time.sleep(0.003)

    def stop(self):
        self.over = True
        self.thread.join()
        return self.most


def bench_watched(agent, events, all_slugs, nginx, log_dir):
    """Memory and the agent's loop, in rounds that are not timed."""
    most, why, worst = {}, loopwatch.available(), None
    for slug in all_slugs:
        calm(agent)
        trace = None if why else loopwatch.Trace(agent.proc.pid, log_dir + "/loop.perf")
        memory = Memory(roles(agent))
        fetch(agent, events, slug, nginx.fast)
        for role, mb in memory.stop().items():
            most[role] = max(most.get(role, 0), mb)
        forget(agent, slug)
        if not trace:
            continue
        found = trace.stop()
        longest = max(found, key=loopwatch.Turn.ms)
        calls = ", ".join(f"{seconds * 1e3:.2f} in call {number}" for seconds, number in
                          sorted(longest.calls, reverse=True)[:3])
        line(f"{slug.name}: longest turn of dynod's loop, of {len(found)}", longest.ms(), "ms", calls)
        worst = max(worst or 0, longest.ms())
    print("  peak resident memory by role, MB: " + ", ".join(f"{r} {mb:.1f}" for r, mb in most.items()))
    judge("memory: sum of the roles' peaks, whatever the slug", sum(most.values()), "MB", 64)
    if why:
        print(f"dynod's loop was not measured: {why}")
    else:
        judge("dynod's loop: longest turn, fetch, publish and removal", worst, "ms", 5)


def bench_link(agent, events, one, slug, nginx, rounds):
    """Many connections against one, over two kinds of link."""
    one_events = Events(one)
    far = SlowLink(nginx.fast)
    try:
        for what, port in ((f"{RATE}B/s each connection", nginx.limited), (f"{ROUND_TRIP_MS} ms away", far.port)):
            curls, singles, ours, speedups = [], [], [], []
            for _ in range(rounds):
                calm(agent)
                curls.append(curl_ms(slug, port))
                took, ms_one = fetch(one, one_events, slug, port)
                singles.append(took)
                forget(one, slug)
                calm(agent)
                took, ms = fetch(agent, events, slug, port)
                ours.append(took)
                speedups.append(ms_one["download"] / ms["download"])
                forget(agent, slug)
            line(f"{what}: curl, nothing unpacked", statistics.median(curls), "ms", spread(curls))
            line(f"{what}: one connection -> published", statistics.median(singles), "ms", spread(singles))
            line(f"{what}: ours -> published", statistics.median(ours), "ms", spread(ours))
            line(f"{what}: so many times as fast, published",
                 statistics.median(s / o for s, o in zip(singles, ours)), "x")
            judge(f"{what}: so many times as fast, the download", statistics.median(speedups), "x", 4, ">=")
    finally:
        far.stop()


def main():
    parts = ["speed", "tiny", "memory", "link"]
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", type=int, default=20)
    parser.add_argument("--only", action="append", choices=parts)
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    wanted = args.only or parts
    all_slugs = slugs.slugs(build)
    for slug in all_slugs.values():
        print(slug)
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: stopped"))
    with contextlib.ExitStack() as ends, open(build + "/bench/dynod-slug.log", "w") as log:
        share, nginx = Share(), Nginx(build + "/bench/slugs")
        ends.callback(share.remove)
        ends.callback(nginx.stop)
        options = ["store.allow_http=yes"]
        agent = Agent(build, log, options)
        ends.callback(agent.stop)
        events = Events(agent)
        if "tiny" in wanted:
            bench_tiny(agent, events, all_slugs["tiny"], nginx, share, args.tiny)
        if "speed" in wanted:
            bench_speed(agent, events, all_slugs["small"], nginx, share, args.rounds, 4)
            bench_speed(agent, events, all_slugs["big"], nginx, share, args.rounds, 2.5)
        if "memory" in wanted:
            bench_watched(agent, events, all_slugs.values(), nginx, agent.dir)
        if "link" in wanted:
            one = Agent(build, log, options + ["store.fetch_connections=1"])
            ends.callback(one.stop)
            bench_link(agent, events, one, all_slugs["big"], nginx, max(1, args.rounds // 2))
    print("all targets met" if not missed else f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
