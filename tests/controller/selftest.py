#!/usr/bin/env python3
"""selftest.py - the example controller against agents that are made of Python: no dynod needed."""
import contextlib
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from types import SimpleNamespace

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import scheduler  # noqa: E402
from fake_agent import Away, FakeAgent, call, new_memory  # noqa: E402
from fleet import state_hash  # noqa: E402

PATIENCE_SEC = int(os.environ.get("PATIENCE", "40"))
RELEASE = {"slug": "file:///nowhere.tgz"}


def free_ports(n):
    """Ports that stay free while the controller is killed and started anew: the kernel gives out none of these, and
    a run by another user looks elsewhere."""
    first, found = 10000 if os.getuid() == 0 else 15000, []
    for port in random.sample(range(first, first + 5000), 5000):
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("0.0.0.0", port))
            found.append(port)
        if len(found) == n:
            return found
    raise OSError("no port is free")


def registration():
    return {"agent": "a", "version": "1", "epoch": "e", "store": None, "generation": 0, "capacity": {"dynos": 1},
            "labels": {}, "address": "", "instance": {"draining": False, "deadline": None, "reason": None},
            "state": {"generation": 1, "hash": state_hash([]), "dynos": []}}


class WithController(unittest.TestCase):
    """One controller for each test, in a process of its own: it can be killed. Nobody is lost who only has to wait
    for a processor."""
    options = ()
    ttl_ms, poll_ms, result_ms = 60_000, 1000, 15_000

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="dynod-selftest.")
        self.addCleanup(shutil.rmtree, self.dir)
        self.ports = free_ports(2)
        self.process, self.agents = None, []
        self.addCleanup(self.end)
        self.begin()

    def begin(self, store="store"):
        ready = os.path.join(self.dir, "ready")
        if os.path.exists(ready):
            os.unlink(ready)
        self.process = subprocess.Popen(
            [sys.executable, "-B", HERE / "controller.py", "--store", f"{self.dir}/{store}", "--ready", ready,
             "--agents", f"127.0.0.1:{self.ports[0]}", "--people", f"127.0.0.1:{self.ports[1]}",
             "--record", f"{self.dir}/record", "--heartbeat-ms", "300", "--ttl-ms", str(self.ttl_ms),
             "--poll-ms", str(self.poll_ms), "--result-ms", str(self.result_ms),
             *[o.replace("@DIR@", self.dir) for o in self.options]], stdout=subprocess.DEVNULL)
        self.wait(lambda: os.path.exists(ready))
        self.urls = json.loads(pathlib.Path(ready).read_text(encoding="utf-8"))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        for a in self.agents:
            a.stop()
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.assertIn(self.process.wait(PATIENCE_SEC), (0, -signal.SIGKILL))

    def agent(self, id, **more):
        a = FakeAgent(self.urls["agents"], id, **more).start()
        self.agents.append(a)
        self.wait(lambda: self.instance(id) and self.instance(id)["state"] != "lost")
        return a

    def get(self, path):
        return call(self.urls["people"], "GET", "/v1/" + path)

    def post(self, path, **body):
        return call(self.urls["people"], "POST", "/v1/" + path, body)

    def instance(self, id):
        return next((i for i in self.get("instances") if i["agent"] == id), None)

    def where(self, app="shop"):
        """{dyno: agent} of what is up."""
        return {d["dyno"]: d["agent"] for d in self.get("dynos") if d["app"] == app and d["up"]}

    def wait(self, condition):
        deadline = time.monotonic() + PATIENCE_SEC
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"gave up waiting: {condition.__code__.co_filename}:{condition.__code__.co_firstlineno}")
            time.sleep(0.05)


class Fleet(WithController):
    def test_start_scale_stop_spread_over_agents(self):
        self.agent("a"), self.agent("b")
        self.post("apps/shop/release", **RELEASE, formation={"web": 4})
        self.wait(lambda: len(self.where()) == 4)
        self.assertEqual(sorted(self.where().values()), ["a", "a", "b", "b"])
        self.assertEqual(len(self.get("routes?app=shop")), 4)
        self.post("apps/shop/scale", web=1, worker=2)
        self.wait(lambda: sorted(self.where()) == ["web.1", "worker.1", "worker.2"])
        self.assertEqual(len(self.get("routes")), 1)
        self.wait(lambda: len(self.get("exits")) == 3)
        self.post("apps/shop/stop", dynos=["worker.1"])
        self.wait(lambda: sorted(self.where()) == ["web.1", "worker.2"])
        self.post("apps/shop/stop")
        self.wait(lambda: not self.where())

    def test_new_release_and_restart_replace(self):
        self.agent("a"), self.agent("b")
        self.post("apps/shop/release", **RELEASE, formation={"web": 2})
        self.wait(lambda: len(self.where()) == 2)
        self.post("apps/shop/release", **RELEASE)
        self.wait(lambda: [d["release"] for d in self.get("dynos") if d["up"]] == [2, 2])
        runs = {d["run"] for d in self.get("dynos")}
        self.post("apps/shop/restart", dynos=["web.1"])
        self.wait(lambda: len({d["run"] for d in self.get("dynos") if d["up"]} & runs) == 1 and len(self.where()) == 2)

    def test_drained_agent_is_left_when_the_replacement_is_up(self):
        a, b = self.agent("a"), self.agent("b")
        self.post("apps/shop/release", **RELEASE, formation={"web": 2})
        self.wait(lambda: len(self.where()) == 2)
        b.up_after = a.up_after = 0.8
        least = []
        answer = self.post("agents/a/drain")
        self.assertEqual(answer["result"]["status"], "done")

        def moved():
            least.append(len(self.where()))
            return not a.dynos
        self.wait(moved)
        self.assertEqual(min(least), 2)  # at no moment fewer that serve
        self.assertEqual(set(self.where().values()), {"b"})
        self.post("agents/a/undrain")
        self.post("apps/shop/scale", web=3)
        self.wait(lambda: self.where().get("web.3") == "a")

    def test_capacity_refusal_finds_another_home(self):
        small = self.agent("a")
        small.dynos_max = 1  # less than it has said
        self.agent("b")
        self.post("apps/shop/release", **RELEASE, formation={"web": 4})
        self.wait(lambda: len(self.where()) == 4)
        self.assertEqual(sum(agent == "a" for agent in self.where().values()), 0)
        refused = [c["result"]["error"]["code"] for c in self.get("agents/a/commands")
                   if c["result"]["status"] == "refused"]
        self.assertIn("capacity", refused)

    def test_one_off_and_plain_commands(self):
        self.agent("a")
        self.post("apps/shop/release", **RELEASE, formation={"web": 0})
        answer = self.post("apps/shop/run", command="true")
        self.assertEqual(answer["result"]["status"], "done")
        self.assertTrue(answer["result"]["answer"]["dyno"].startswith("run."))
        self.assertEqual(self.post("agents/a/commands", op="dance")["result"]["error"]["code"], "unknown-op")
        self.assertEqual(self.post("agents/a/prefetch", slug="file:///x", digest="sha256:0")["result"]["status"],
                         "done")


class Lost(WithController):
    ttl_ms = 3000

    def test_lost_agent_is_replaced_and_stops_when_it_comes_back(self):
        a = self.agent("a")
        self.agent("b")
        self.post("apps/shop/release", **RELEASE, formation={"web": 4})
        self.wait(lambda: len(self.where()) == 4)
        a.stop()
        self.wait(lambda: sorted(self.where().values()) == ["b"] * 4)
        self.assertEqual(self.instance("a")["state"], "lost")
        again = self.agent("a", memory=a.memory)
        self.wait(lambda: not again.dynos)
        self.assertEqual(sorted(self.where().values()), ["b"] * 4)


class Memory(WithController):
    def test_killed_controller_goes_on(self):
        a = self.agent("a")
        self.post("apps/shop/release", **RELEASE, formation={"web": 2})
        self.wait(lambda: len(self.where()) == 2)
        runs = {d["run"] for d in self.get("dynos")}
        self.kill()
        a.end("shop", "web.1", 1)
        a.run("shop", "web.1")
        self.begin()
        self.wait(lambda: len(self.where()) == 2 and len(self.get("exits")) == 1)
        self.assertEqual(len(runs & {d["run"] for d in self.get("dynos")}), 1)
        self.assertEqual({c["result"]["status"] for c in self.get("agents/a/commands")}, {"done"})

    def test_a_new_store_stops_nothing_until_it_takes_over(self):
        a = self.agent("a")
        self.post("apps/shop/release", **RELEASE, formation={"web": 2})
        self.wait(lambda: len(self.where()) == 2)
        old = self.urls["store"]
        self.kill()
        self.begin("another")
        self.wait(lambda: self.instance("a") and self.instance("a")["state"] == "conflict")
        self.assertEqual(self.post("agents/a/sync")["result"]["error"]["code"], "wrong-store")
        self.assertEqual(len(a.dynos), 2)
        self.assertEqual(self.instance("a")["obeys"], old)
        self.assertEqual(self.post("agents/a/takeover")["result"]["status"], "done")
        self.wait(lambda: not a.dynos and self.instance("a")["state"] == "alive")

    def test_an_agent_that_forgot_is_told_everything_at_once(self):
        a = self.agent("a")
        self.post("apps/shop/release", **RELEASE, formation={"web": 2})
        self.post("apps/shop/scale", web=[1, 4])
        self.wait(lambda: sorted(self.where()) == ["web.1", "web.4"])
        a.stop()
        forgetful = self.agent("a", memory=new_memory())
        self.wait(lambda: sorted(d["dyno"] for d in forgetful.dynos.values()) == ["web.1", "web.4"])
        self.assertEqual(self.get("agents/a/commands")[-1]["op"], "sync")

    def test_a_store_older_than_the_agent_numbers_on(self):
        a = self.agent("a")
        self.post("apps/shop/release", **RELEASE)
        self.wait(lambda: len(self.where()) == 1)
        a.memory["generation"] = 500
        a.session = None
        self.wait(lambda: self.get("agents/a/commands")[-1]["generation"] == 501)
        self.wait(lambda: a.memory["generation"] == 501)
        self.assertEqual(len(a.dynos), 1)

    def test_exits_are_one_for_each_id(self):
        a = self.agent("a")
        self.post("apps/shop/release", **RELEASE, formation={"web": 1})
        self.wait(lambda: len(self.where()) == 1)
        a.acks_lost = 3
        self.post("apps/shop/stop")
        self.wait(lambda: self.get("exits") and not a.exits)
        self.assertEqual([(e["times"], e["differs"]) for e in self.get("exits")], [(4, False)])


class Protocol(WithController):
    def test_wrong_hash_asks_for_a_snapshot(self):
        a = self.agent("a")
        self.post("apps/shop/release", **RELEASE, formation={"web": 2})
        self.wait(lambda: len(self.where()) == 2)
        with a.lock:  # a change that no delta tells of
            a.dynos["shop/web.1"] = {**a.dynos["shop/web.1"], "port": 4242}
        self.wait(lambda: 4242 in [r["port"] for r in self.get("routes")])
        self.assertEqual(self.instance("a")["hash"], state_hash(a.dynos.values()))

    def test_an_old_session_registers_again(self):
        a = self.agent("a")
        with self.assertRaises(Away) as no:
            call(self.urls["agents"], "GET", "/v1/agents/a/commands?session=s-0&after=0&wait=0")
        self.assertEqual(no.exception.status, 409)
        a.session = "s-0"
        self.wait(lambda: a.registrations == 2)

    def test_bad_requests_are_refused(self):
        def status(method, path, body=None, raw=None):
            c = http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=10)
            c.request(method, path, raw if raw is not None else json.dumps(body))
            with contextlib.closing(c):
                return c.getresponse().status

        register = "/v1/agents/a/register"
        good = registration()
        self.assertEqual(status("POST", register, good), 200)
        self.assertEqual(status("POST", register, {k: v for k, v in good.items() if k != "epoch"}), 400)
        self.assertEqual(status("POST", register, {**good, "generation": "1"}), 400)
        self.assertEqual(status("POST", register, raw=b"{"), 400)
        self.assertEqual(status("POST", register, raw=b'{"a":1,"a":2}'), 400)
        self.assertEqual(status("POST", register, raw=b'{"a":NaN}'), 400)
        self.assertEqual(status("POST", register, raw=b"[" * 100_000), 400)
        self.assertEqual(status("POST", register, raw=b"[]"), 400)
        self.assertEqual(status("GET", register), 405)
        self.assertEqual(status("GET", "/v1/nothing"), 404)
        self.assertEqual(status("GET", "/v1/agents/a/commands?session=x&after=many"), 400)

    def test_the_page_is_for_this_machine_only(self):
        def status(**headers):
            c = http.client.HTTPConnection("127.0.0.1", self.ports[1], timeout=10)
            c.request("POST", "/v1/apps/shop/stop", "{}", headers)
            with contextlib.closing(c):
                return c.getresponse().status

        self.assertEqual(status(), 404)
        self.assertEqual(status(Origin="http://elsewhere.example"), 403)
        self.assertEqual(status(Host="elsewhere.example"), 403)

    def test_the_page_hears_of_changes(self):
        c = http.client.HTTPConnection("127.0.0.1", self.ports[1], timeout=PATIENCE_SEC)
        c.request("GET", "/v1/events")
        r = c.getresponse()
        self.agent("seen")
        while True:
            line = r.readline().decode()
            if line.startswith("data: ") and [i for i in json.loads(line[6:])["instances"] if i["agent"] == "seen"]:
                break
        c.close()


class LongPoll(WithController):
    poll_ms, result_ms = 60_000, 500

    def test_long_poll_is_prompt_and_empty_in_time(self):
        a = self.agent("a")
        a.stop()
        session = call(self.urls["agents"], "POST", "/v1/agents/a/register", registration())["session"]
        path = f"/v1/agents/a/commands?session={session}&after=0&wait="
        begin = time.monotonic()
        self.assertEqual(call(self.urls["agents"], "GET", path + "0.5"), {"commands": []})
        self.assertGreater(time.monotonic() - begin, 0.4)
        found = []
        t = threading.Thread(target=lambda: found.append(call(self.urls["agents"], "GET", path + "15")))
        t.start()
        time.sleep(0.2)
        begin = time.monotonic()
        ordered = threading.Thread(target=self.post, args=("agents/a/undrain",))
        ordered.start()  # waits for the agent's answer, in vain
        t.join()
        self.assertLess(time.monotonic() - begin, 10)  # not at the poll's end
        self.assertEqual(found[0]["commands"][0]["op"], "undrain")
        ordered.join()


class Tls(WithController):
    options = ("--cert", "@DIR@/ca/server.pem", "--key", "@DIR@/ca/server.key", "--client-ca", "@DIR@/ca/ca.pem",
               "--token-file", "@DIR@/token")

    def begin(self, store="store"):
        if not os.path.exists(f"{self.dir}/ca"):
            subprocess.run([HERE / "mkca", f"{self.dir}/ca"], check=True, stderr=subprocess.DEVNULL)
            pathlib.Path(self.dir, "token").write_text("one\ntwo\n", encoding="utf-8")
        super().begin(store)

    def status(self, token=None, cert=False):
        import ssl
        tls = ssl.create_default_context(cafile=f"{self.dir}/ca/ca.pem")
        if cert:
            tls.load_cert_chain(f"{self.dir}/ca/client.pem", f"{self.dir}/ca/client.key")
        try:
            call(self.urls["agents"], "GET", "/v1/agents/a/commands?session=x&after=0", None, token, tls)
        except Away as e:
            return e.status
        return 200

    def test_a_token_or_a_certificate(self):
        self.assertEqual(self.status(), 401)
        self.assertEqual(self.status(token="three"), 401)
        self.assertEqual(self.status(token="two"), 409)  # let in; but there is no such session
        self.assertEqual(self.status(cert=True), 409)
        pathlib.Path(self.dir, "token").write_text("three\n", encoding="utf-8")
        self.assertEqual(self.status(token="two"), 401)
        self.assertEqual(self.status(token="three"), 409)

    def test_an_agent_over_tls(self):
        self.agent("a", token="one", ca=f"{self.dir}/ca/ca.pem")
        self.post("apps/shop/release", **RELEASE)
        self.wait(lambda: self.where() == {"web.1": "a"})


class Plan(unittest.TestCase):
    """scheduler.py alone."""
    apps = {"shop": {"release": {"version": 1, "stop_after": {"clock": 5}}, "dynos": ["clock.1"]}}

    def test_one_of_which_there_must_never_be_two(self):
        v = scheduler.View
        p = scheduler.plan(self.apps, {}, {"a": v()})
        self.assertEqual(p.places, {("shop", "clock.1", "a"): "home"})
        # Draining: told to stop, and no other before it has.
        running = frozenset(["shop/clock.1"])
        p = scheduler.plan(self.apps, p.places, {"a": v(usable=False, abandoned=True, running=running), "b": v()})
        self.assertEqual((dict(p.stops), dict(p.starts)), ({("a", "shop"): ["clock.1"]}, {}))
        p = scheduler.plan(self.apps, p.places, {"a": v(usable=False, abandoned=True, running=running), "b": v()})
        self.assertEqual((dict(p.stops), dict(p.starts)), ({}, {}))
        p = scheduler.plan(self.apps, p.places, {"a": v(usable=False, abandoned=True), "b": v()})
        self.assertEqual(dict(p.starts), {("b", "shop"): ["clock.1"]})

    def test_lost_with_it_only_after_its_time(self):
        v = scheduler.View
        places = {("shop", "clock.1", "a"): "home"}
        for sec, starts in ((20, {}), (51, {("b", "shop"): ["clock.1"]})):
            agents = {"a": v(usable=False, abandoned=True, lost_sec=sec, running=frozenset(["shop/clock.1"])),
                      "b": v()}
            places = scheduler.plan(self.apps, places, agents).places
            p = scheduler.plan(self.apps, places, agents)
            self.assertEqual(bool(p.places.get(("shop", "clock.1", "b"))), bool(starts))

    def test_no_room_no_place(self):
        apps = {"shop": {"release": {"version": 1}, "dynos": ["web.1", "web.2", "web.3"]}}
        p = scheduler.plan(apps, {}, {"a": scheduler.View(room=2), "b": scheduler.View(usable=False)})
        self.assertEqual(dict(p.starts), {("a", "shop"): ["web.1", "web.2"]})

    def test_undrained_with_the_other_refused_it_stays(self):
        apps = {"shop": {"release": {"version": 1}, "dynos": ["web.1"]}}
        p = scheduler.plan(apps, {("shop", "web.1", "a"): "leaving"}, {"a": scheduler.View()})
        self.assertEqual(p.places, {("shop", "web.1", "a"): "home"})
        self.assertEqual((dict(p.starts), dict(p.stops)), ({}, {}))


class Hash(unittest.TestCase):
    def test_to_the_letter(self):
        d = SimpleNamespace(web={"app": "shop", "dyno": "web.1", "release": 42, "state": "up", "up": True,
                                 "address": "10.0.3.7", "port": 20011, "run": "shop.web.1.ab"},
                            worker={"app": "shop", "dyno": "worker.1", "release": 42, "state": "crashed", "up": False,
                                    "address": "", "port": None, "run": ""})
        # printf 'shop/web.1 42 up 1 10.0.3.7 20011 shop.web.1.ab\nshop/worker.1 42 crashed 0 - 0 -\n' | sha256sum
        self.assertEqual(state_hash([d.worker, d.web]), "dd2358e4bfa035bc")
        self.assertEqual(state_hash([]), "e3b0c44298fc1c14")


if __name__ == "__main__":
    unittest.main()
