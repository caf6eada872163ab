"""fake_agent.py - an agent without dynos, for trying a controller: the other side of docs/protocol.md.

Its dynos are entries in a table. It keeps nothing on disk; `memory` is what a real one would keep."""
import http.client
import itertools
import json
import secrets
import ssl
import threading
import time
from urllib.parse import quote, urlsplit

from fleet import state_hash


class Away(Exception):
    """No answer, or not 200: `status` tells."""
    def __init__(self, status):
        super().__init__(status)
        self.status = status


def call(url, method, path, body=None, token=None, tls=None, timeout=20, headers=None):
    u = urlsplit(url)
    make = http.client.HTTPSConnection if u.scheme == "https" else http.client.HTTPConnection
    c = make(u.hostname, u.port, timeout=timeout, **({"context": tls} if tls else {}))
    try:
        head = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        c.request(method, path, None if body is None else json.dumps(body), {**head, **(headers or {})})
        r = c.getresponse()
        data = r.read()
    except (OSError, http.client.HTTPException) as e:
        raise Away(str(e)) from None
    finally:
        c.close()
    if r.status != 200:
        raise Away(r.status)
    return json.loads(data)


def new_memory():
    return {"store": None, "generation": 0, "settled": [], "releases": {}, "wanted": []}


class FakeAgent:
    def __init__(self, url, id, memory=None, token=None, ca=None, dynos_max=1000):
        self.url, self.id, self.token = url, id, token
        self.tls = ssl.create_default_context(cafile=ca) if ca else None
        self.memory = memory if memory is not None else new_memory()
        self.dynos_max, self.epoch = dynos_max, secrets.token_hex(8)
        self.lock, self.stopped = threading.Condition(threading.RLock()), threading.Event()
        self.dynos, self.state, self.runs = {}, 1, itertools.count(1)
        self.delta = {"from": 1, "dynos": {}, "gone": []}
        self.exits, self.results, self.instance, self.told_instance = [], [], self.instance_now(False), True
        self.session, self.seq, self.beats, self.snapshot = None, 0, 0, False
        self.acks_lost = 0       # so many reports of exits arrive without our hearing of it
        self.registrations = 0
        self.up_after = 0.05
        for app, dyno in list(self.memory["wanted"]):
            self.run(app, dyno)

    # --- the link ---------------------------------------------------------------------------------

    def start(self):
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self.poller, self.reporter)]
        for t in self.threads:
            t.start()
        return self

    def stop(self):
        """As kill -9 of the whole instance."""
        self.stopped.set()
        with self.lock:
            self.lock.notify_all()

    def call(self, method, what, body=None, timeout=20):
        return call(self.url, method, f"/v1/agents/{quote(self.id)}/{what}", body, self.token, self.tls, timeout)

    def register(self):
        with self.lock:
            m, hash = self.memory, state_hash(self.dynos.values())
            body = {"agent": self.id, "version": "0.0.1", "epoch": self.epoch, "store": m["store"],
                    "generation": m["generation"],
                    "capacity": {"dynos": self.dynos_max, "memory": 1 << 30, "cpus": 2}, "labels": {"zone": "test"},
                    "address": "127.0.0.1", "instance": self.instance,
                    "state": {"generation": self.state, "hash": hash, "dynos": list(self.dynos.values())}}
            answer = self.call("POST", "register", body)
            self.session, self.store, self.heartbeat = answer["session"], answer["store"], answer["heartbeat_ms"] / 1000
            self.poll_ms, self.seq, self.registrations = answer["poll_ms"], 0, self.registrations + 1
            # Of another store than we obey nothing is settled; what this session has answered is not asked again.
            self.after = m["generation"] if m["store"] in (None, self.store) else 0
            self.delta, self.told_instance = {"from": self.state, "dynos": {}, "gone": []}, True

    def poller(self):
        while not self.stopped.is_set():
            try:
                if not self.session:
                    self.register()
                answer = self.call("GET", f"commands?session={self.session}&after={self.after}"
                                          f"&wait={self.poll_ms / 1000}", timeout=self.poll_ms / 1000 + 10)
                for c in answer["commands"]:
                    self.command(c)
            except Away as e:
                if e.status == 409:
                    self.session = None
                self.stopped.wait(0.1)

    def reporter(self):
        while not self.stopped.is_set():
            with self.lock:
                self.lock.wait_for(lambda: self.stopped.is_set() or (self.session and self.news()),
                                   getattr(self, "heartbeat", 0.1))
            self.stopped.wait(0.02)
            try:
                if self.session and not self.stopped.is_set():
                    self.report() if self.news() else self.beat()
            except Away as e:
                if e.status == 409:
                    self.session = None
                self.stopped.wait(0.1)

    def news(self):
        return self.delta["dynos"] or self.delta["gone"] or self.exits or self.results or self.snapshot \
            or not self.told_instance

    def beat(self):
        with self.lock:
            self.beats += 1
            body = {"agent": self.id, "epoch": self.epoch, "session": self.session, "seq": self.beats,
                    "generation": self.state, "hash": state_hash(self.dynos.values()), "load": [0.1, 0.1, 0.1]}
        self.snapshot = self.call("POST", "heartbeat", body).get("snapshot", False) or self.snapshot

    def report(self):
        with self.lock:
            exits, results, delta = list(self.exits), list(self.results), self.delta
            body = {"agent": self.id, "epoch": self.epoch, "session": self.session, "seq": self.seq + 1,
                    "from": delta["from"], "generation": self.state, "hash": state_hash(self.dynos.values()),
                    "snapshot": self.snapshot, "gone": delta["gone"], "exits": exits, "results": results,
                    "dynos": list(self.dynos.values()) if self.snapshot else list(delta["dynos"].values()),
                    "instance": self.instance, "dropped": 0}
            self.delta = {"from": self.state, "dynos": {}, "gone": []}
        try:
            answer = self.call("POST", "reports", body)
            if self.acks_lost and exits:
                self.acks_lost -= 1
                raise Away("the acknowledgement got lost")
        except Away as e:
            with self.lock:
                if e.status != 409:
                    # The same report, to the letter, until it is acknowledged.
                    self.delta = {"from": delta["from"], "dynos": {**delta["dynos"], **self.delta["dynos"]},
                                  "gone": delta["gone"] + self.delta["gone"]}
            raise
        with self.lock:
            self.seq = answer["acked"]
            self.exits = [e for e in self.exits if e not in exits]
            self.results = [r for r in self.results if r not in results]
            self.snapshot, self.told_instance = answer.get("snapshot", False), True

    # --- commands ---------------------------------------------------------------------------------

    def command(self, c):
        with self.lock:
            m, code, answer = self.memory, None, {}
            self.after = max(self.after, c["generation"])
            takes_over = c["op"] == "sync" and c.get("replaces") == m["store"]
            if m["store"] not in (None, self.store) and not takes_over:
                status, code = "refused", "wrong-store"
            elif c["id"] in m["settled"]:
                status = "duplicate"
            elif c["generation"] <= m["generation"] and m["store"] == self.store:
                status = "stale"
            else:
                code, answer = getattr(self, "do_" + c["op"], self.unknown)(c)
                status = "refused" if code else "done"
                m.update(store=self.store, generation=c["generation"], settled=m["settled"][-255:] + [c["id"]])
            self.results.append({"id": c["id"], "generation": c["generation"], "status": status, "answer": answer,
                                 "error": {"code": code, "message": code, "fault": "operator"} if code else None})
            self.lock.notify_all()

    def unknown(self, c):
        return "unknown-op", {}

    def do_start(self, c):
        if self.instance["draining"]:
            return "draining", {}
        if len(self.memory["wanted"]) + len(c["dynos"]) > self.dynos_max:
            return "capacity", {}
        if "release" in c:
            old = self.memory["releases"].get(c["app"])
            self.memory["releases"][c["app"]] = c["release"]
            if old and old["version"] != c["release"]["version"]:
                for app, dyno in [w for w in self.memory["wanted"] if w[0] == c["app"]]:
                    self.end(app, dyno)
                    self.run(app, dyno)
        elif c["app"] not in self.memory["releases"]:
            return "unknown-app", {}
        for dyno in c["dynos"]:
            if [c["app"], dyno] not in self.memory["wanted"]:
                self.memory["wanted"].append([c["app"], dyno])
                self.run(c["app"], dyno)
        return None, {}

    def do_stop(self, c):
        for w in [w for w in self.memory["wanted"] if w[0] == c["app"] and w[1] in c.get("dynos", [w[1]])]:
            self.memory["wanted"].remove(w)
            self.end(*w)
        return None, {}

    def do_restart(self, c):
        for w in [w for w in self.memory["wanted"] if w[0] == c["app"] and w[1] in c.get("dynos", [w[1]])]:
            self.end(*w)
            self.run(*w)
        return None, {}

    def do_run(self, c):
        name = f"run.{c.get('num', 1000 + next(self.runs))}"
        self.run(c["app"], name)
        self.end(c["app"], name)
        return None, {"dyno": name}

    def do_prefetch(self, c):
        return None, {}

    def do_drain(self, c):
        self.instance, self.told_instance = self.instance_now(True, "controller"), False
        return None, {}

    def do_undrain(self, c):
        self.instance, self.told_instance = self.instance_now(False), False
        return None, {}

    def do_sync(self, c):
        wanted = []
        for a in c["apps"]:
            self.memory["releases"][a["app"]] = a["release"]
            for kind, n in a["formation"].items():
                wanted += [[a["app"], f"{kind}.{i}"] for i in (n if isinstance(n, list) else range(1, n + 1))]
        for w in [w for w in self.memory["wanted"] if w not in wanted]:
            self.end(*w)
        for w in [w for w in wanted if w not in self.memory["wanted"]]:
            self.run(*w)
        self.memory["wanted"] = wanted
        return None, {}

    def instance_now(self, draining, reason=None):
        return {"draining": draining, "deadline": None, "reason": reason}

    # --- dynos ------------------------------------------------------------------------------------

    def run(self, app, dyno):
        kind = dyno.rpartition(".")[0]
        d = {"app": app, "dyno": dyno, "type": kind, "release": self.memory["releases"].get(app, {}).get("version", 1),
             "state": "starting", "up": False, "address": "127.0.0.1",
             "port": 20000 + next(self.runs) if kind == "web" else None,
             "run": f"{app}.{dyno}.{secrets.token_hex(3)}", "restarts": 0, "since": now(), "size": "standard-1x"}
        self.put(d)
        threading.Timer(self.up_after, self.up, (d,)).start()

    def up(self, d):
        with self.lock:
            if self.dynos.get(f"{d['app']}/{d['dyno']}", {}).get("run") == d["run"]:
                self.put({**d, "state": "up", "up": True})

    def put(self, d):
        with self.lock:
            self.dynos[f"{d['app']}/{d['dyno']}"] = d
            self.state += 1
            self.delta["dynos"][f"{d['app']}/{d['dyno']}"] = d
            self.delta["gone"] = [g for g in self.delta["gone"] if g != f"{d['app']}/{d['dyno']}"]
            self.lock.notify_all()

    def end(self, app, dyno, status=143):
        with self.lock:
            d = self.dynos.pop(f"{app}/{dyno}")
            self.state += 1
            self.delta["dynos"].pop(f"{app}/{dyno}", None)
            self.delta["gone"].append(f"{app}/{dyno}")
            self.exits.append({"id": d["run"], "app": app, "dyno": dyno, "release": d["release"], "cause": "exited",
                               "fault": "app", "status": status, "text": f"the process exited with status {status}",
                               "evidence": {}, "t": now()})
            self.lock.notify_all()


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
