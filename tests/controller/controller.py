#!/usr/bin/env python3
"""controller.py - a small controller for dynod: the example of docs/protocol.md, and what its tests use.

Agents call one port (TLS, a client certificate or a bearer token); people use another one, on loopback:
a page, and the same as JSON for curl. README.md beside this file has the calls.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import ssl
import sys
import threading

from fleet import Fleet, Refused
from http_server import Server, need

NUMBER = (int, float)
SIZE_MAX = 100    # dynos of one type, in a formation given to us
RESULT_MS = 5000  # for the agent's answer to a person's order
PAGE = pathlib.Path(__file__).with_name("page.html")


class Controller:
    def __init__(self, fleet, record=None, result_ms=RESULT_MS):
        self.fleet, self.record, self.result_ms = fleet, record, result_ms

    # --- for agents: these four are the protocol --------------------------------------------------

    def agent_routes(self):
        return [("POST", "/v1/agents/{agent}/register", self.register),
                ("GET", "/v1/agents/{agent}/commands", self.commands),
                ("POST", "/v1/agents/{agent}/reports", self.reports),
                ("POST", "/v1/agents/{agent}/heartbeat", self.heartbeat)]

    def register(self, http, body, agent):
        self.note("Register", body)
        need(body, agent=str, epoch=str, store=(str, type(None)), generation=int, capacity=dict, labels=dict,
             address=str, instance=dict, state=dict)
        need(body["state"], generation=int, hash=str, dynos=list)
        for d in body["state"]["dynos"]:
            dyno_checked(d)
        return self.fleet.register(agent, body)

    def commands(self, http, body, agent):
        try:
            session, after = http.query["session"], int(http.query["after"])
            wait = float(http.query.get("wait", 0))
        except (KeyError, ValueError):
            raise Refused(400, "session, after and wait, please") from None
        return self.fleet.commands(agent, session, after, wait)

    def reports(self, http, body, agent):
        self.note("Report", body)
        need(body, agent=str, session=str, seq=int, generation=int, hash=str, from_opt=int, snapshot_opt=bool,
             dynos_opt=list, gone_opt=list, exits_opt=list, results_opt=list, notices_opt=list, dropped_opt=int,
             instance_opt=dict)
        for d in body.get("dynos", []):
            dyno_checked(d)
        for e in body.get("exits", []):
            need(e, id=str, app=str, dyno=str, cause=str, fault=str)
        for r in body.get("results", []):
            need(r, id=str, status=str)
        if not body.get("snapshot"):
            need(body, **{"from": int})
        return self.fleet.report(agent, body)

    def heartbeat(self, http, body, agent):
        self.note("Heartbeat", body)
        need(body, agent=str, session=str, seq=int, generation=int, hash=str, load_opt=list)
        return self.fleet.heartbeat(agent, body)

    def note(self, schema, body):
        """With --record: what agents send, for the test that holds it against the schema."""
        if self.record:
            self.record.write(json.dumps({"schema": schema, "body": body}) + "\n")
            self.record.flush()

    # --- for people -------------------------------------------------------------------------------

    def people_routes(self):
        f = self.fleet

        def ask(question):
            def answer(http, body, **names):
                with f.lock:
                    return question(**names)
            return answer

        return [("GET", "/", lambda http, body: PAGE.read_bytes()),
                ("GET", "/v1/events", self.events),
                ("GET", "/v1/overview", ask(f.overview)),
                ("GET", "/v1/instances", ask(f.instances)),
                ("GET", "/v1/dynos", lambda http, body: of_app(http, f.dynos())),
                ("GET", "/v1/routes", lambda http, body: of_app(http, f.routes())),
                ("GET", "/v1/exits", lambda http, body: of_app(http, ask(f.store.exits)(http, body))),
                ("GET", "/v1/notices", ask(f.store.notices)),
                ("GET", "/v1/apps", ask(f.store.apps)),
                ("POST", "/v1/apps/{app}/release", self.release),
                ("POST", "/v1/apps/{app}/scale", lambda http, body, app: f.scale(app, formation_checked(body))),
                ("POST", "/v1/apps/{app}/restart", lambda http, body, app: f.restart(app, names_checked(body))),
                ("POST", "/v1/apps/{app}/stop", lambda http, body, app: f.stop(app, names_checked(body))),
                ("POST", "/v1/apps/{app}/run", self.run),
                ("POST", "/v1/agents/{agent}/drain", self.order("drain", "deadline_ms")),
                ("POST", "/v1/agents/{agent}/undrain", self.order("undrain")),
                ("POST", "/v1/agents/{agent}/prefetch", self.order("prefetch", "slug", "digest")),
                ("POST", "/v1/agents/{agent}/sync", lambda http, body, agent: self.told(agent, f.sync(agent))),
                ("POST", "/v1/agents/{agent}/takeover", lambda http, body, agent: self.told(agent, f.takeover(agent))),
                ("POST", "/v1/agents/{agent}/commands", self.raw),
                ("GET", "/v1/agents/{agent}/commands", ask(f.store.commands)),
                ("DELETE", "/v1/agents/{agent}", lambda http, body, agent: f.forget(agent))]

    def events(self, http, body):
        """Server-sent events: the overview, now and whenever it has changed."""
        seen = -1
        while True:
            with self.fleet.lock:
                self.fleet.lock.wait_for(lambda: self.fleet.change != seen)
                seen, now = self.fleet.change, self.fleet.overview()
            yield now

    def release(self, http, body, app):
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", app):
            raise Refused(400, "no name for an app")
        need(body, slug=(str, list), digest_opt=str, env_opt=dict, size_opt=str, stop_after_opt=dict, meta_opt=dict,
             formation_opt=dict)
        formation = formation_checked(body.pop("formation", {}))
        if extra := set(body) - {"slug", "digest", "env", "size", "stop_after", "meta"}:
            raise Refused(400, f"unknown: {', '.join(sorted(extra))}")
        return self.fleet.release(app, body, formation)

    def run(self, http, body, app):
        agent, command = self.fleet.run(app, body)
        return self.told(agent, command)

    def order(self, op, *members):
        def send(http, body, agent):
            if set(body) - set(members):
                raise Refused(400, f"only {', '.join(members) or 'an empty object'}")
            return self.told(agent, self.fleet.command(agent, {"op": op, **body}))
        return send

    def raw(self, http, body, agent):
        """Any command of the protocol; id and generation are ours."""
        need(body, op=str)
        return self.told(agent, self.fleet.command(agent, {k: body[k] for k in body if k not in ("id", "generation")}))

    def told(self, agent, command):
        """Waits a moment for the agent's answer; `result` is null when there is none yet."""
        return {"agent": agent, "command": command,
                "result": self.fleet.wait_result(agent, command, self.result_ms / 1000)}


def dyno_checked(d):
    if not isinstance(d, dict):
        raise Refused(400, "a dyno is an object")
    need(d, app=str, dyno=str, type=str, release=int, state=str, up=bool, address=str, port=(int, type(None)), run=str)


def formation_checked(body):
    for kind, n in body.items():
        many = n if isinstance(n, list) else [n]
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", kind) or len(many) > SIZE_MAX or \
                not all(type(i) is int and 0 <= i <= SIZE_MAX for i in many):
            raise Refused(400, f"{kind}: a number up to {SIZE_MAX}, or a list of them")
    return body


def names_checked(body):
    need(body, dynos_opt=list)
    return body.get("dynos")


def of_app(http, rows):
    return [r for r in rows if http.query.get("app", r["app"]) == r["app"]]


def arguments(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--store", required=True, help="the file to remember in")
    p.add_argument("--agents", default="127.0.0.1:7080", help="where agents call, HOST:PORT")
    p.add_argument("--people", default="127.0.0.1:7081", help="page and JSON; only ever loopback")
    p.add_argument("--cert", help="the server's certificate; without it agents speak plain HTTP")
    p.add_argument("--key")
    p.add_argument("--client-ca", help="a client certificate of this CA is enough")
    p.add_argument("--token-file", help="bearer tokens that are enough, one a line; read at each request")
    p.add_argument("--heartbeat-ms", type=int, default=10000)
    p.add_argument("--ttl-ms", type=int, default=30000)
    p.add_argument("--poll-ms", type=int, default=25000)
    p.add_argument("--result-ms", type=int, default=RESULT_MS, help="how long an order waits for its result")
    p.add_argument("--ready", help="a file to write both addresses into, as JSON, when everything listens")
    p.add_argument("--record", help="append what agents send, for the test that knows the schema")
    return p.parse_args(argv)


def tls_context(args):
    if not args.cert:
        return None
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.load_cert_chain(args.cert, args.key)
    if args.client_ca:
        tls.load_verify_locations(args.client_ca)
        tls.verify_mode = ssl.CERT_OPTIONAL if args.token_file else ssl.CERT_REQUIRED
    return tls


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def tokens_of(path):
    if not path:
        return None
    return lambda: [line.strip() for line in open(path, encoding="utf-8") if line.strip()]


def main(argv, make=Controller, make_fleet=Fleet):
    args = arguments(argv)
    fleet = make_fleet(args.store, args.heartbeat_ms, args.ttl_ms, args.poll_ms)
    controller = make(fleet, open(args.record, "a", encoding="utf-8") if args.record else None, args.result_ms)
    agents = Server(address(args.agents), controller.agent_routes(), tls_context(args), tokens_of(args.token_file))
    people = Server(address(args.people), controller.people_routes(), loopback_only=True)
    done = threading.Event()
    for signo in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signo, lambda *_: done.set())
    agents.start()
    people.start()
    where = {"agents": agents.url, "people": people.url, "store": fleet.store.id}
    print(json.dumps(where), flush=True)
    if args.ready:
        pathlib.Path(args.ready + ".new").write_text(json.dumps(where), encoding="utf-8")
        os.rename(args.ready + ".new", args.ready)
    while not done.wait(1):
        fleet.tick()


if __name__ == "__main__":
    main(sys.argv[1:])
