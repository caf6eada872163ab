#!/usr/bin/env python3
"""bench.py - what a start costs through the API, beside the floor, in one run.

usage: bench.py BUILD_DIR [--starts N] [--dynos N]      (as root: the floor needs it)

Both sides launch the same static program, which tells when its first instruction was. Every figure is a
median of one run of this script, interleaved round by round, so that a machine's drift meets both.
"""
import argparse
import array
import json
import os
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, f"{os.path.dirname(os.path.abspath(__file__))}/../controller")
from common import Agent, cpu_ms, parent, rollup, say, scheduled_ms, voluntary  # noqa: E402
from controller import Controller  # noqa: E402
from fleet import Fleet  # noqa: E402
from http_server import Server  # noqa: E402


def first_instruction(fd):
    """When, as `hello-byte now` says it itself."""
    told = re.match(rb"S (\d+)\n", os.read(fd, 64))
    if not told:
        sys.exit("bench: the program wrote no stamp")
    return int(told.group(1))


def oneoff_ms(agent, argv):
    """Request sent -> first instruction of the program, on a connection that is open already."""
    s = agent.connect()
    body = json.dumps({"argv": argv, "attach": True}).encode()
    request = (f"POST /v1/apps/bench/run HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\n"
               f"Upgrade: dynod-attach\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body
    began = time.monotonic_ns()
    s.sendall(request)
    fds = array.array("i")
    while len(fds) < 3:
        data, anc, _, _ = s.recvmsg(65536, socket.CMSG_SPACE(8 * 4))
        if not data:
            sys.exit("bench: the agent closed the connection")
        for level, kind, payload in anc:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[:len(payload) - len(payload) % 4])
    ended = first_instruction(fds[1])
    for fd in fds:
        os.close(fd)
    told = b""
    while b'"ended"' not in told:
        told += s.recv(65536) or sys.exit("bench: the agent closed the connection")
    s.close()
    while agent.request("GET", "/v1/status").get("endings"):  # and its remains are gone
        pass
    return (ended - began) / 1e6


def floor_ms(build, n, pause_ms=0, more=(), prefix=()):
    return floor_times(build, n, pause_ms, more, prefix)[0]


def floor_times(build, n, pause_ms=0, more=(), prefix=()):
    """Median and least of N. MORE: ("net",), or ("exec", COMMAND...) for that command in the floor's place."""
    floor, hello = build + "/bench/floor", build + "/bench/hello-byte"
    argv = [floor, str(n), *more] if more and more[0] == "exec" else [floor, hello, str(n), str(pause_ms), *more]
    out = subprocess.run([*prefix, *argv], capture_output=True, text=True)
    if out.returncode != 0:
        sys.exit(f"bench: {argv}: {out.stderr or out.stdout}")
    return tuple(float(re.search(key + r"=([0-9.]+)", out.stdout).group(1)) for key in ("p50", "min"))


def release(agent, app, types, formation):
    agent.request("POST", f"/v1/apps/{app}/releases",
                  {"slug": "file://" + agent.dir + "/bench.tgz", "types": types,
                   "digest": agent.digest, "formation": formation})


def bench_start(agent, build, starts):
    """One-offs, and the floor in turns with them."""
    ours, floors, shell = [], [], []
    for _ in range(10):
        floors.append(floor_ms(build, max(20, starts // 10)))
        ours += [oneoff_ms(agent, ["/app/hello-byte", "now"]) for _ in range(starts // 10)]
    for _ in range(max(20, starts // 5)):
        shell.append(oneoff_ms(agent, ["bash", "--login", "-c", "/app/hello-byte now"]))
    floor, start = statistics.median(floors), statistics.median(ours)
    say("floor: clone3, namespaces, overlay, pivot_root, execve", floor)
    say("request -> first instruction, cached slug, one-off", start, note=f"{start / floor:.2f} x floor (target 3)")
    say("  90th percentile", sorted(ours)[len(ours) * 9 // 10])
    say("the same through bash --login -c", statistics.median(shell))


CRASH_PAUSE_MS = 15  # what `hello-byte stamp` sleeps, so that its restart is an immediate one


def bench_crash(agent, build, count):
    """A dyno that ends soon, again and again: end of one run -> first instruction of the next."""
    floor = floor_ms(build, count, CRASH_PAUSE_MS)
    say(f"floor, {CRASH_PAUSE_MS} ms after the last start", floor)
    release(agent, "crash", [{"name": "worker", "command": "/app/hello-byte stamp", "direct": True}],
            {"worker": 1})
    time.sleep(0.5)
    deadline = time.time() + 60
    while True:
        stamps = log_stamps(agent, "crash")
        if len(stamps) >= 2 * count or time.time() > deadline:
            break
        time.sleep(0.2)
    agent.request("POST", "/v1/apps/crash/stop")
    gaps = [(b[1] - a[1]) / 1e6 for a, b in zip(stamps, stamps[1:]) if a[0] == "E" and b[0] == "S"]
    if not gaps:
        sys.exit("bench: no restart was seen")
    gap = statistics.median(gaps)
    say(f"crash -> first instruction of the restart ({len(gaps)})", gap, note=f"{gap / floor:.2f} x floor (target 3)")


def log_stamps(agent, app):
    s = agent.connect()
    s.sendall(f"GET /v1/logs?app={app}&n=1500&source=app&format=text HTTP/1.1\r\nHost: d\r\n"
              f"Connection: close\r\n\r\n".encode())
    out = b""
    while chunk := s.recv(65536):
        out += chunk
    return [(k.decode(), int(v)) for k, v in re.findall(rb": ([SE]) (\d+)", out)]


def cgroups(agent):
    """Those of its dynos."""
    found = []
    for root, dirs, _ in os.walk("/sys/fs/cgroup"):
        if os.path.basename(root) == agent.level:
            found += [os.path.join(root, d) for d in dirs]
    return found


def traces(agent):
    """Everything a dyno could leave behind, counted."""
    found = {"fds of dynod": len(os.listdir(f"/proc/{agent.proc.pid}/fd")),
             "runs": len(os.listdir(agent.run + "/run")),
             "scratch directories": len(os.listdir(agent.dir + "/state/scratch")),
             "trash": len(os.listdir(agent.dir + "/state/trash"))}
    with open(f"/proc/{agent.proc.pid}/mounts") as f:
        found["mounts of dynod"] = len(f.readlines())
    found["cgroups"] = len(cgroups(agent))
    found["processes"] = sum(1 for p in os.listdir("/proc") if p.isdigit() and parent(p) == agent.proc.pid)
    return found


def bench_many(agent, count):
    """COUNT idle dynos of one slug: memory, wake-ups, and that nothing is left of them."""
    half = (count + 1) // 2
    types = [{"name": t, "command": "/app/hello-byte stay", "direct": True} for t in ("a", "b")]
    release(agent, "many", types, {"a": 1, "b": 0})
    agent.wait("many", 1, "up")
    before = None
    agent.request("POST", "/v1/apps/many/stop")
    agent.wait("many", 0, "up")
    time.sleep(1)
    before = traces(agent)
    began = time.monotonic()
    for step in range(0, half, 50):
        n = min(half, step + 50)
        agent.request("PATCH", "/v1/apps/many/formation", {"a": n, "b": min(count - half, n)})
    dynos = agent.wait("many", count, "up", 120)
    say(f"{count} dynos of one slug up after", (time.monotonic() - began) * 1e3)
    pss = rollup(agent.proc.pid, "Pss:")
    inits = [rollup(d["pid"], "Private") for d in dynos]
    say(f"memory: dynod with {count} dynos", pss / 1024, "MB", f"PSS (target 8 MB with 100)")
    say("memory: dyno-init, private", statistics.median(inits), "kB", f"max {max(inits)} (target 128)")
    time.sleep(2)
    wakes = voluntary(agent.proc.pid)
    time.sleep(10)
    say("idle: dynod's wake-ups in 10 s", voluntary(agent.proc.pid) - wakes, "", "the sample timer's alone")
    began = time.monotonic()
    agent.request("POST", "/v1/apps/many/stop")
    agent.wait("many", 0, "up", 120)
    say(f"{count} dynos gone again after", (time.monotonic() - began) * 1e3)
    deadline = time.time() + 30
    while (after := traces(agent)) != before and time.time() < deadline:
        time.sleep(0.2)
    for what in before:
        left = after[what] - before[what]
        say(f"left behind: {what}", left, "", "" if left == 0 else "LEAK")
    return after == before


def adopted(agent, before):
    """True when the API answers and says that all of BEFORE (dyno: pid) are up."""
    try:
        dynos = agent.request("GET", "/v1/dynos?app=adopt")
    except (ConnectionError, FileNotFoundError):
        return False
    return {d["dyno"]: d.get("pid") for d in dynos if d["state"] == "up"} == before


def bench_adopt(agent, count, rounds=5):
    """kill -9, and from the next agent's exec to its API's answer that all of COUNT are up as they were."""
    half = (count + 1) // 2
    types = [{"name": t, "command": "/app/hello-byte stay", "direct": True} for t in ("a", "b")]
    release(agent, "adopt", types, {"a": 0, "b": 0})
    for step in range(0, half, 50):
        n = min(half, step + 50)
        agent.request("PATCH", "/v1/apps/adopt/formation", {"a": n, "b": min(count - half, n)})
    dynos = agent.wait("adopt", count, "up", 120)
    before = {d["dyno"]: d["pid"] for d in dynos}
    times, cpus = [], []
    for _ in range(rounds):
        time.sleep(1)
        agent.proc.kill()
        agent.proc.wait()
        began = time.monotonic()
        agent.launch()
        while not adopted(agent, before):
            if time.monotonic() - began > 60 or agent.proc.poll() is not None:
                sys.exit("bench: the dynos were not adopted")
            time.sleep(0.002)
        times.append((time.monotonic() - began) * 1e3)
        cpus.append(cpu_ms(agent.proc.pid))
    say(f"adopt {count}: exec of dynod -> its API says that all are up", statistics.median(times),
        note=f"max {max(times):.0f} (target 1000)")
    say("  dynod's own user and system time for it", statistics.median(cpus))
    agent.request("POST", "/v1/apps/adopt/stop")
    agent.wait("adopt", 0, "up", 120)


class Platform:
    """tests/controller over TLS, in this process; its scheduler knows of no app."""

    AGENT = "bench"

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="dynod-bench-", dir="/dev/shm")  # its disk is not what is measured
        here = os.path.dirname(os.path.abspath(__file__))
        subprocess.run([here + "/../controller/mkca", self.dir], check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.dir + "/server.pem", self.dir + "/server.key")
        self.fleet = Fleet(self.dir + "/store.db", heartbeat_ms=10000)
        self.server = Server(("127.0.0.1", 0), Controller(self.fleet).agent_routes(), tls)
        self.server.start()
        self.options = [f"link.controllers={self.server.url}", f"link.ca_file={self.dir}/ca.pem",
                        f"link.agent_id={self.AGENT}"]

    def registered(self):
        with self.fleet.lock:
            return self.AGENT in self.fleet.agents

    def run(self, argv):
        """When it was sent, in ns, and the one-off's name."""
        began = time.monotonic_ns()
        command = self.fleet.command(self.AGENT, {"op": "run", "app": "bench", "argv": argv})
        result = self.fleet.wait_result(self.AGENT, command, 10)
        if not result or result["status"] != "done":
            sys.exit(f"bench: run over the link: {result}")
        return began, result["answer"]["dyno"]


def link_pid(agent):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if parent(pid) == agent.proc.pid and open(f"/proc/{pid}/comm").read() == "dynod-link\n":
            return int(pid)
    sys.exit("bench: no dynod-link runs")


def bench_link(build, log, starts=100, idle_sec=60):
    """A command of the controller over the open long-poll; and what the link costs when nothing happens."""
    platform = Platform()
    agent = Agent(build, log, platform.options)
    try:
        prepare(agent, build)
        deadline = time.monotonic() + 10
        while not platform.registered():
            if time.monotonic() > deadline:
                sys.exit("bench: the agent did not register")
            time.sleep(0.01)
        sent = []
        for _ in range(starts):
            began, _ = platform.run(["/app/hello-byte", "stamp"])
            sent.append(began)
            time.sleep(0.1)  # it is over and gone
        time.sleep(0.5)
        begun = sorted(ns for what, ns in log_stamps(agent, "bench") if what == "S")[-len(sent):]
        took = [(b - a) / 1e6 for a, b in zip(sent, begun)]
        if len(begun) != len(sent) or min(took) < 0:
            sys.exit("bench: not every run over the link left its stamp")
        say(f"controller's command -> first instruction, long-poll, TLS ({starts})", statistics.median(took),
            note=f"90th percentile {sorted(took)[starts * 9 // 10]:.2f} (target 10)")
        pids = [agent.proc.pid, link_pid(agent)]
        time.sleep(2)
        before, wakes = scheduled_ms(pids), [voluntary(p) for p in pids]
        time.sleep(idle_sec)
        used = scheduled_ms(pids) - before
        say(f"idle, heartbeat every 10 s: CPU of dynod and dynod-link in {idle_sec} s", used,
            note=f"{used / idle_sec / 10:.3f} % of a core (target 0.1); "
                 f"wake-ups {', '.join(str(voluntary(p) - w) for p, w in zip(pids, wakes))}")
        say("memory: dynod-link", rollup(pids[1], "Pss:") / 1024, "MB", "PSS")
    finally:
        agent.stop()
        shutil.rmtree(platform.dir, ignore_errors=True)


def prepare(agent, build):
    app = agent.dir + "/app"
    os.mkdir(app)
    shutil.copy(build + "/bench/hello-byte", app)
    with open(app + "/Procfile", "w") as f:
        f.write("worker: /app/hello-byte stay\n")
    out = subprocess.run([build + "/bin/dyno", "slug", "pack", app, "-o", agent.dir + "/bench.tgz"],
                         capture_output=True, text=True, check=True).stdout
    agent.digest = re.search(r"sha256:[0-9a-f]{64}", out).group(0)
    release(agent, "bench", [{"name": "worker", "command": "/app/hello-byte stay", "direct": True}], {"worker": 1})
    agent.wait("bench", 1, "up")
    agent.request("PATCH", "/v1/apps/bench/formation", {"worker": 0})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--starts", type=int, default=300)
    parser.add_argument("--dynos", type=int, default=200)
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    if os.geteuid() != 0:
        sys.exit("bench: the floor needs root")
    with open(build + "/bench/dynod.log", "w") as log:
        agent = Agent(build, log)
        try:
            prepare(agent, build)
            bench_start(agent, build, args.starts)
            bench_crash(agent, build, 200)
            bench_adopt(agent, args.dynos)
            clean = bench_many(agent, 100) & bench_many(agent, args.dynos)
            bench_link(build, log)
        finally:
            agent.empty("bench", "crash", "adopt", "many")
            agent.stop()
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()
