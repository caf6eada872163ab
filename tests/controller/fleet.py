"""fleet.py - the agents: sessions, what runs on them, commands to them, reports from them.

The four calls of an agent (register, commands, reports, heartbeat) are docs/protocol.md, step by step.
Everything happens under one lock; whoever waits (a long-poll, the page) waits on its condition.
"""
import hashlib
import secrets
import threading
import time
from dataclasses import dataclass, field

import scheduler
from store import Store

COMMANDS_MAX = 1000   # in one answer
REFUSED_SEC = 10      # an agent that refused a start gets no other for so long
ELSEWHERE = ("capacity", "limit", "draining")  # why a start is refused that another agent may take
RUNNING = ("provisioning", "starting", "up", "paused", "stopping")


class Refused(Exception):
    """An answer other than 200."""
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


@dataclass
class Agent:
    """What is known of an agent since this controller started; the store has the rest."""
    session: str | None = None
    info: dict = field(default_factory=dict)       # its registration, without the state
    seen: float = field(default_factory=time.monotonic)
    conflict: str | None = None                    # the store that it obeys, if that is not ours
    seq: int = 0                                   # of its last report
    state: int = 0                                 # number of the state that `dynos` is
    dynos: dict = field(default_factory=dict)      # "app/dyno": DYNO
    load: list = field(default_factory=list)
    dropped: int = 0
    refused_until: float = 0


def state_hash(dynos):
    """docs/protocol.md, "The hash"."""
    lines = [f"{d['app']}/{d['dyno']} {d['release']} {d['state']} {1 if d['up'] else 0} "
             f"{d['address'] or '-'} {d['port'] or 0} {d['run'] or '-'}\n".encode() for d in dynos]
    return hashlib.sha256(b"".join(sorted(lines))).hexdigest()[:16]


class Fleet:
    def __init__(self, path, heartbeat_ms=10000, ttl_ms=30000, poll_ms=25000):
        self.times = {"heartbeat_ms": heartbeat_ms, "ttl_ms": ttl_ms, "poll_ms": poll_ms}
        self.lock = threading.Condition(threading.RLock())
        self.store = Store(path)
        # Whoever was there before this start has its TTL to come back before it is taken for lost.
        self.agents = {id: Agent(info=info) for id, info in self.store.agents().items()}
        self.change = 0  # grows with everything that the page shows

    # --- the agent's four calls -------------------------------------------------------------------

    def register(self, id, body):
        with self.lock, self.store:
            a = self.agents.setdefault(id, Agent())
            a.info = {k: v for k, v in body.items() if k != "state"}
            a.session, a.seq, a.seen = "s-" + secrets.token_hex(8), 0, time.monotonic()
            a.dynos = {f"{d['app']}/{d['dyno']}": d for d in body["state"]["dynos"]}
            a.state = body["state"]["generation"]
            a.conflict = body["store"] if body["store"] not in (None, self.store.id) else None
            self.store.agent_save(id, a.info)
            if not a.conflict:
                self.resume(id, body["generation"] if body["store"] else 0)
            self.changed()
            return {"session": a.session, "store": self.store.id, **self.times}

    def resume(self, id, settled):
        """The agent says up to where it has settled our commands: do both memories fit?"""
        last, floor = self.store.numbering(id)
        answered = [c["generation"] for c in self.store.commands(id) if c["result"]]
        if settled > last:
            # Our memory is older than the agent's (a backup came back): number on above it.
            self.store.numbering_set(id, settled, settled)
            self.sync(id)
        elif settled < max([floor, *answered]):
            # The agent's memory is gone (a new disk). Old commands are history: tell it all at once.
            self.store.numbering_set(id, last, last)
            self.sync(id)

    def commands(self, id, session, after, wait):
        """The long-poll: returns as soon as there is a command after generation AFTER."""
        deadline = time.monotonic() + min(wait, self.times["poll_ms"] / 1000)
        with self.lock:
            while True:
                self.in_session(id, session)
                found = self.next_commands(id, after)
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return {"commands": found}
                self.lock.wait(left)

    def next_commands(self, id, after):
        return self.store.commands_after(id, after, COMMANDS_MAX)

    def report(self, id, body):
        with self.lock, self.store:
            a = self.in_session(id, body["session"])
            a.seen, a.dropped = time.monotonic(), body.get("dropped", a.dropped)
            for e in body.get("exits", []):
                self.store.exit_add(id, e)
            answer = {"acked": body["seq"]}
            if body["seq"] <= a.seq:
                return answer  # the same report again: our answer to it got lost
            a.seq = body["seq"]
            for r in body.get("results", []):
                self.result(id, a, r)
            for n in body.get("notices", []):
                self.store.notice_add(id, n)
            if "instance" in body:
                a.info["instance"] = body["instance"]
                self.store.agent_save(id, a.info)
            if not self.state_taken(a, body):
                answer["snapshot"] = True
            self.changed()
            return answer

    def state_taken(self, a, body):
        """Applies a delta, or all of it. False: ours is another state now, only a snapshot helps."""
        if body.get("snapshot"):
            a.dynos = {}
        elif body["from"] != a.state:
            return False
        for d in body.get("dynos", []):
            a.dynos[f"{d['app']}/{d['dyno']}"] = d
        for name in body.get("gone", []):
            a.dynos.pop(name, None)
        a.state = body["generation"]
        return state_hash(a.dynos.values()) == body["hash"]

    def heartbeat(self, id, body):
        with self.lock:
            a = self.in_session(id, body["session"])
            back = self.is_lost(a)
            a.seen, a.load = time.monotonic(), body.get("load", [])
            if back:
                self.changed()
            fits = body["generation"] == a.state and body["hash"] == state_hash(a.dynos.values())
            return {} if fits else {"snapshot": True}

    def in_session(self, id, session):
        a = self.agents.get(id)
        if not a or a.session is None or a.session != session:
            raise Refused(409, "no such session: register")
        return a

    def result(self, id, a, result):
        known = self.store.command(id, result["id"])
        self.store.result_add(id, result)
        code = (result.get("error") or {}).get("code")
        if known and known[0]["op"] == "start" and code in ELSEWHERE:
            # Not here: the dynos have no home again, and the next plan finds them another.
            a.refused_until = time.monotonic() + REFUSED_SEC
            places = self.store.places()
            for dyno in known[0]["dynos"]:
                if places.get((known[0]["app"], dyno, id)) == "home":
                    del places[known[0]["app"], dyno, id]
            self.store.places_save(places)

    # --- what is wanted ---------------------------------------------------------------------------

    def release(self, app, release, formation):
        """A new version of APP, its own numbering going on. FORMATION: {type: n}, {} leaves it."""
        with self.lock, self.store:
            known = self.store.apps().get(app, {"release": {"version": 0}, "dynos": []})
            release = {"version": known["release"]["version"] + 1, **release}
            dynos = resize(known["dynos"], formation or ({} if known["dynos"] else {"web": 1}))
            self.store.app_save(app, release, dynos)
            # Where it runs already, the new version replaces the old one.
            there = {}
            for (a, dyno, agent), role in self.store.places().items():
                if a == app and role == "home" and dyno in dynos:
                    there.setdefault(agent, []).append(dyno)
            for agent, names in there.items():
                self.store.command_add(agent, {"op": "start", "app": app, "release": release, "dynos": sorted(names)})
            self.changed()
            return {"app": app, "release": release, "dynos": dynos}

    def scale(self, app, formation):
        return self.want(app, lambda dynos: resize(dynos, formation))

    def stop(self, app, dynos):
        return self.want(app, lambda now: [d for d in now if dynos is not None and d not in dynos])

    def want(self, app, edit):
        with self.lock, self.store:
            known = self.app(app)
            self.store.app_save(app, known["release"], edit(known["dynos"]))
            self.changed()
            return {"app": app, "dynos": edit(known["dynos"])}

    def restart(self, app, dynos):
        with self.lock, self.store:
            there = {}
            for (a, dyno, agent), role in self.store.places().items():
                if a == app and role == "home" and (not dynos or dyno in dynos):
                    there.setdefault(agent, []).append(dyno)
            for agent, names in there.items():
                self.store.command_add(agent, {"op": "restart", "app": app, "dynos": sorted(names)})
            self.changed()
            return {"restarted": sorted(sum(there.values(), []))}

    def run(self, app, spec):
        """A one-off, on the agent with the fewest dynos; returns where, and the command."""
        with self.lock, self.store:
            self.app(app)
            views = self.views()
            free = [(len(views[id].running), id) for id in views if views[id].usable]
            if not free:
                raise Refused(503, "no agent can take it")
            agent = min(free)[1]
            if not any(k[0] == app and k[2] == agent for k in self.store.places()):
                # An agent that never had this app learns its release by starting none of it.
                self.store.command_add(agent, {"op": "start", "app": app, "dynos": [],
                                               "release": self.app(app)["release"]})
            return agent, self.command(agent, {"op": "run", "app": app, **spec})

    def app(self, app):
        apps = self.store.apps()
        if app not in apps:
            raise Refused(404, f"no app {app}")
        return apps[app]

    # --- commands to one agent --------------------------------------------------------------------

    def command(self, id, command):
        with self.lock:
            if id not in self.agents:
                raise Refused(404, f"no agent {id}")
            command = self.store.command_add(id, command)
            self.changed()
            return command

    def sync(self, id, **more):
        """All that should run there, in one command."""
        apps, names = self.store.apps(), {}
        for (app, dyno, agent), role in self.store.places().items():
            if agent == id and role != "ending" and app in apps:
                kind, _, num = dyno.rpartition(".")
                names.setdefault(app, {}).setdefault(kind, []).append(int(num))
        return self.command(id, {"op": "sync", **more, "apps": [
            {"app": app, "release": apps[app]["release"], "formation": formation}
            for app, formation in names.items()]})

    def takeover(self, id):
        """From the store that the agent obeys: what runs there of ours goes on, the rest of that store's ends."""
        with self.lock, self.store:
            a = self.agents.get(id)
            if not a or not a.conflict:
                raise Refused(409, "it obeys no other store")
            old, a.conflict = a.conflict, None
            return self.sync(id, replaces=old)

    def wait_result(self, id, command, seconds):
        """The result of COMMAND, or None if there is none in time."""
        deadline = time.monotonic() + seconds
        with self.lock:
            while True:
                result = self.store.command(id, command["id"])[1]
                left = deadline - time.monotonic()
                if result or left <= 0:
                    return result
                self.lock.wait(left)

    def forget(self, id):
        with self.lock, self.store:
            if not self.is_lost(self.agents.get(id, Agent())):
                raise Refused(409, "it is alive, or unknown")
            del self.agents[id]
            self.store.agent_forget(id)
            self.changed()
            return {}

    # --- planning ---------------------------------------------------------------------------------

    def changed(self):
        """Something has: plan anew, wake whoever waits."""
        apps = self.store.apps()
        before = self.store.places()
        p = scheduler.plan(apps, before, self.views())
        # Starts first: of two commands to one agent, the one that serves is sooner there.
        for (agent, app), dynos in p.starts.items():
            self.store.command_add(agent, {"op": "start", "app": app, "release": apps[app]["release"],
                                           "dynos": sorted(dynos)})
        for (agent, app), dynos in p.stops.items():
            self.store.command_add(agent, {"op": "stop", "app": app, "dynos": sorted(dynos)})
        if p.places != before:
            self.store.places_save(p.places)
        self.change += 1
        self.lock.notify_all()

    def is_lost(self, a):
        return time.monotonic() - a.seen > self.times["ttl_ms"] / 1000

    def views(self):
        now, views = time.monotonic(), {}
        for id, a in self.agents.items():
            lost, draining = self.is_lost(a), a.info.get("instance", {}).get("draining", False)
            views[id] = scheduler.View(
                usable=bool(a.session) and not (lost or draining or a.conflict) and now >= a.refused_until,
                abandoned=lost or draining,
                lost_sec=now - a.seen if lost else 0,
                room=a.info.get("capacity", {}).get("dynos", 0),
                up=frozenset() if lost else frozenset(n for n, d in a.dynos.items() if d["up"]),
                running=frozenset(n for n, d in a.dynos.items() if d["state"] in RUNNING))
        return views

    def tick(self):
        """Every second: TTLs pass without anybody calling."""
        with self.lock, self.store:
            self.changed()

    # --- questions --------------------------------------------------------------------------------

    def instances(self):
        with self.lock:
            return [{"agent": id, "state": self.state_of(a), "silent_ms": int((time.monotonic() - a.seen) * 1000),
                     "address": a.info.get("address"), "epoch": a.info.get("epoch"),
                     "version": a.info.get("version"), "labels": a.info.get("labels", {}),
                     "capacity": a.info.get("capacity", {}), "instance": a.info.get("instance", {}),
                     "obeys": a.conflict or self.store.id, "load": a.load, "dropped": a.dropped,
                     "hash": state_hash(a.dynos.values()), "dynos": len(a.dynos)}
                    for id, a in sorted(self.agents.items())]

    def state_of(self, a):
        if self.is_lost(a):
            return "lost"
        if not a.session:
            return "expected"
        if a.conflict:
            return "conflict"
        return "draining" if a.info["instance"]["draining"] else "alive"

    def dynos(self):
        """What runs, and what should: a dyno that is wanted and not there has the state "wanted"."""
        with self.lock:
            found, places = {}, self.store.places()
            for id, a in self.agents.items():
                for d in a.dynos.values():
                    found[d["app"], d["dyno"], id] = {
                        **d, "agent": id, "up": d["up"] and not self.is_lost(a),
                        "role": places.get((d["app"], d["dyno"], id)),
                        "state": "lost" if self.is_lost(a) else d["state"]}
            for (app, dyno, id), role in places.items():
                if role == "home":
                    found.setdefault((app, dyno, id), {
                        "app": app, "dyno": dyno, "agent": id, "role": role, "state": "wanted", "up": False})
            return [found[k] for k in sorted(found, key=lambda k: (k[0], *natural(k[1]), k[2]))]

    def routes(self):
        """What a router needs: nothing else."""
        return [{"app": d["app"], "dyno": d["dyno"], "type": d["type"], "address": d["address"], "port": d["port"],
                 "agent": d["agent"]} for d in self.dynos() if d["up"] and d.get("port")]

    def overview(self):
        with self.lock:
            return {"store": self.store.id, "instances": self.instances(), "dynos": self.dynos(),
                    "apps": self.store.apps(), "exits": self.store.exits(12), "notices": self.store.notices(8)}


def natural(dyno):
    kind, _, num = dyno.rpartition(".")
    return kind, int(num) if num.isdigit() else 0


def resize(dynos, formation):
    """DYNOS with the types that FORMATION names as it says: a number n is 1 to n, a list is those."""
    kept = [d for d in dynos if scheduler.type_of(d) not in formation]
    for kind, n in formation.items():
        kept += [f"{kind}.{i}" for i in (n if isinstance(n, list) else range(1, n + 1))]
    return sorted(kept, key=natural)
