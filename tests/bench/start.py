#!/usr/bin/env python3
"""start.py - what starting a dyno costs, beside the kernel's own price and beside what others do it in.

usage: start.py BUILD_DIR [--rounds N] [--dynos N]      (as root)

Everything launches the same static program, which tells the time of its first instruction itself
(hello-byte.c); all sides take turns within one run, so that the machine's drift and its other work meet
all of them. Only the ratios travel. Prints each target of docs/performance.md and whether it was met;
fails only when something is left behind.
"""
import argparse
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from bench import cgroups, floor_times, oneoff_ms, prepare, release, traces
from common import Agent, rollup, scheduled_ms

APP_TYPES = 100  # dynos of one process type, at most
BY_HAND = ["/app/hello-byte", "now"]
PEER_MEMORY = 1 << 30  # the limits that crun gets too: those of standard-1x
PEER_PIDS = 256


def verdict(value, target):
    return "met" if value <= target else "MISSED"


def row(what, value, unit="ms", note=""):
    print(f"{what:<62} {value:>9.3f} {unit:<4} {note}", flush=True)


def compared(what, value, name, base, factor):
    """Medians decide. What the least of each say is what a machine with nothing else to do would."""
    print(f"  {what}: target {factor:g} x {name} = {base[0] * factor:.3f} ms, measured {value[0]:.3f} ms, "
          f"ratio {value[0] / base[0]:.2f}: {verdict(value[0], base[0] * factor)} (of the least {value[1] / base[1]:.2f})",
          flush=True)


class Peers:
    """crun and bwrap, on a root filesystem that has what the program needs."""

    def __init__(self, build):
        self.dir = tempfile.mkdtemp(prefix="dynod-bench-")
        self.root = self.dir + "/rootfs"
        for name in ("app", "proc", "dev", "sys", "tmp"):
            os.makedirs(f"{self.root}/{name}")
        shutil.copy(build + "/bench/hello-byte", self.root + "/app")
        self.apart = []
        if os.path.ismount("/sys/fs/cgroup/unified"):
            # crun 1.8 refuses a hybrid layout: it does not see the second half in a mount namespace
            self.apart = ["unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified && exec "$@"', "-"]
        if shutil.which("crun"):
            self.config()

    def config(self):
        subprocess.run(["crun", "spec"], cwd=self.dir, check=True)
        with open(self.dir + "/config.json") as f:
            config = json.load(f)
        config["process"].update(terminal=False, args=BY_HAND)
        config["process"].pop("rlimits", None)
        config["root"] = {"path": self.root, "readonly": True}
        config["linux"]["resources"].update(memory={"limit": PEER_MEMORY}, pids={"limit": PEER_PIDS})
        with open(self.dir + "/config.json", "w") as f:
            json.dump(config, f)

    def crun(self, build, n):
        return floor_times(build, n, 0, ("exec", "crun", "run", "-b", self.dir, f"bench-{os.getpid()}"), self.apart)

    def bwrap(self, build, n):
        return floor_times(build, n, 0, ("exec", "bwrap", "--unshare-all", "--ro-bind", self.root, "/", "--proc", "/proc",
                                      "--dev", "/dev", "--tmpfs", "/tmp", *BY_HAND))

    def done(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def settle(agent, want=None, timeout=30):
    """Until its spares are as many as WANT (None: all)."""
    deadline = time.monotonic() + timeout
    while True:
        spares = agent.request("GET", "/v1/status").get("spares") or {"ready": 0, "wanted": 0}
        if spares["ready"] >= (spares["wanted"] if want is None else want):
            return
        if time.monotonic() > deadline:
            sys.exit(f"bench: the spare sandboxes were not made: {spares}")
        time.sleep(0.001)


def starts(agent, n, argv=BY_HAND):
    """Median and least of N."""
    took = []
    for _ in range(n):
        settle(agent)
        took.append(oneoff_ms(agent, argv))
    return statistics.median(took), min(took)


def sides(build, agents, peers):
    """Every side: its name, and what gives the median and the least of N of its starts."""
    hello = build + "/bench/hello-byte"
    found = {"fork + execve": lambda n: floor_times(build, 5 * n, 0, ("exec", hello, "now")),
             "floor": lambda n: floor_times(build, n),
             "floor, CLONE_NEWNET": lambda n: floor_times(build, n, 0, ("net",))}
    if shutil.which("bwrap"):
        found["bwrap --unshare-all"] = lambda n: peers.bwrap(build, n)
    if shutil.which("crun"):
        found["crun run"] = lambda n: peers.crun(build, n)
    for name, agent in agents.items():
        found[name] = lambda n, a=agent: starts(a, n)
        found[name + ", bash --login -c"] = lambda n, a=agent: starts(
            a, max(2, n // 5), ["bash", "--login", "-c", " ".join(BY_HAND)])
    return found


def bench_starts(build, agents, rounds, per_round):
    peers = Peers(build)
    took = {}
    try:
        every = sides(build, agents, peers)
        for _ in range(rounds):
            for name, run in every.items():
                took.setdefault(name, []).append(run(per_round))
    finally:
        peers.done()
    found = {name: (statistics.median(m for m, _ in values), min(least for _, least in values))
             for name, values in took.items()}
    for name, (median, least) in found.items():
        row(name, median, note=f"{median / found['floor'][0]:.2f} x floor; the least {least:.3f} ms, "
            f"{least / found['floor'][1]:.2f} x the floor's")
    return found


def judge(found):
    """The targets, see docs/performance.md."""
    for name, base, factor in (("ours", "floor", 1.5), ("ours", "crun run", 0.2), ("ours", "bwrap --unshare-all", 1),
                               ("ours, private network", "floor, CLONE_NEWNET", 2),
                               ("ours, dressed spare", "fork + execve", 1.5),
                               ("ours, dressed spare, private network", "fork + execve", 1.5)):
        if name in found and base in found:
            compared(name, found[name], base, found[base], factor)


def bench_pool(agent, rounds):
    """A pool that is hit, by one that is dressed or not, and what filling it costs, apart. (That it is empty costs what
    "ours" does.)"""
    hits, start_cpu, refill_cpu, missed = {"dressed": [], "undressed": []}, [], [], 0
    for _ in range(rounds):
        settle(agent)
        idle, before = scheduled_ms([agent.proc.pid]), status_spares(agent)
        took = oneoff_ms(agent, BY_HAND)
        taken = status_spares(agent)
        if taken["taken"] == before["taken"]:  # on a busy machine one may be in its execve still
            missed += 1
            settle(agent)
            continue
        hits["dressed" if taken["taken_dressed"] > before["taken_dressed"] else "undressed"].append(took)
        busy = scheduled_ms([agent.proc.pid])
        settle(agent)
        start_cpu.append(busy - idle)
        refill_cpu.append(status_spares(agent)["made_us"] / 1e3)
    for how, all_of in hits.items():
        if all_of:
            row(f"pool hit, {how}", statistics.median(all_of), note=f"of {len(all_of)}; the least {min(all_of):.3f} ms")
    if missed:
        row("  starts that found the spare not done yet", missed, "")
    row("  dynod's CPU from request to gone, with the refills in it", statistics.median(start_cpu))
    row("  making one spare, dynod stands still for", statistics.median(refill_cpu))


def status_spares(agent):
    return agent.request("GET", "/v1/status")["spares"]


def bench_many(agent, count, what):
    """COUNT dynos, up and all gone again: starts a second, memory, and what is left."""
    names = [f"t{i}" for i in range((count + APP_TYPES - 1) // APP_TYPES)]
    types = [{"name": n, "command": "/app/hello-byte stay", "direct": True} for n in names]
    release(agent, "many", types, {n: 0 for n in names} | {names[0]: 1})
    agent.wait("many", 1, "up")
    agent.request("POST", "/v1/apps/many/stop")
    agent.wait("many", 0, "up")
    time.sleep(1)
    settle(agent)
    before, kernel = traces(agent), kernel_kb(agent)
    began = time.monotonic()
    agent.request("PATCH", "/v1/apps/many/formation",
                  {n: min(APP_TYPES, count - i * APP_TYPES) for i, n in enumerate(names)})
    agent.wait_up(count)
    took = time.monotonic() - began
    dynos = agent.wait("many", count, "up")
    row(f"{count} dynos up, {what}", took, "s", f"{count / took:.0f} starts/s, target 200: "
        f"{'met' if count / took >= 200 else 'MISSED'}")
    bench_memory(agent, dynos, kernel)
    began = time.monotonic()
    agent.request("POST", "/v1/apps/many/stop")
    agent.wait_up(0)
    row(f"{count} dynos stopped", time.monotonic() - began, "s")
    deadline = time.time() + 60
    while True:
        after = traces(agent)
        if all(after[what] <= before[what] for what in before) or time.time() > deadline:
            break
        time.sleep(0.2)
    row(f"{count} dynos gone without a trace", time.monotonic() - began, "s")
    for key in before:
        left = after[key] - before[key]
        if left > 0:
            row(f"LEFT BEHIND: {key}", left, "")
    return all(after[what] <= before[what] for what in before)


def bench_memory(agent, dynos, kernel):
    count = len(dynos)
    pids = [d["pid"] for d in dynos]
    private = statistics.median(rollup(p, "Private") for p in pids)
    pss = statistics.median(rollup(p, "Pss:") for p in pids)
    row("memory of a dyno: dyno-init, private", private, "kB", f"PSS {pss} kB; target 64: {verdict(private, 64)}")
    now = kernel_kb(agent)
    for key in now:
        row(f"  beside it, in the kernel: {key}", (now[key] - kernel[key]) / count, "kB")
    row(f"memory of dynod with {count} dynos", rollup(agent.proc.pid, "Pss:") / 1024, "MB", "PSS")


def kernel_kb(agent):
    """Of the whole machine, so other work shows in it too; and what the dynos' cgroups are charged."""
    wanted = ("SUnreclaim", "SReclaimable", "KernelStack", "PageTables", "Percpu")
    with open("/proc/meminfo") as f:
        found = {k: int(v.split()[0]) for k, v in (line.split(":") for line in f) if k in wanted}
    charged = 0
    for path in cgroups(agent):
        for name in ("memory.kmem.usage_in_bytes", "memory.stat"):
            try:
                with open(f"{path}/{name}") as f:
                    text = f.read()
            except OSError:
                continue
            if name == "memory.stat":
                text = next((line.split()[1] for line in text.splitlines() if line.startswith("kernel ")), "0")
            charged += int(text) // 1024
            break
    return found | {"charged to its cgroup": charged}


def links():
    return len(glob.glob("/sys/class/net/*"))


def agents_of(build, log):
    """One for each way to start; NAME: Agent. Neither the floor nor the peers hold a disk quota, so ours are
    compared without; the last is as shipped. A pool of one has none that is dressed, of two one is."""
    found = {}
    for private in (False, True):
        for n, how in enumerate(("", ", spare", ", dressed spare")):
            name = "ours" + how + (", private network" if private else "")
            found[name] = Agent(build, log, [f"sandbox.spares={n}", "sandbox.disk_quota=none",
                                             f"sandbox.network={'private' if private else 'host'}"])
    found["ours as shipped (2 spares, private network, disk quota)"] = Agent(build, log)
    for agent in found.values():
        prepare(agent, build)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--starts", type=int, default=20, help="of each side in a round")
    parser.add_argument("--dynos", type=int, default=1000)
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    if os.geteuid() != 0:
        sys.exit("bench: the floor needs root")
    clean, before = True, links()
    with open(build + "/bench/dynod.log", "w") as log:
        agents = agents_of(build, log)
        try:
            judge(bench_starts(build, agents, args.rounds, args.starts))
            for name, agent in agents.items():
                if ", spare" in name or ", dressed spare" in name:
                    print(f"{name}:")
                    bench_pool(agent, 50)
                if args.dynos and (name == "ours, private network" or "shipped" in name):
                    clean &= bench_many(agent, args.dynos, name)
        finally:
            for agent in agents.values():
                agent.empty("bench", "many")
                agent.stop()
    if links() != before:
        row("LEFT BEHIND: network links", links() - before, "")
        clean = False
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()
