#!/usr/bin/env python3
"""rogue.py - the example controller gone wrong, for tests: everything that must not hurt an agent.

Options as controller.py's. On the people's port besides:

  POST /rogue/fault    {"kind": K, "calls": ["commands", ..]?, "times": N?, ...}   from now on, so often, or
                       until {"kind": null}; {"all": [F, ..]}: several, the first that fits
  POST /rogue/deliver  {"agent": A, "commands": [..]}   the next long-poll's answer, to the letter
  POST /rogue/times    {"heartbeat_ms"?, "ttl_ms"?, "poll_ms"?}   what sessions get from now on
  POST /rogue/forget-dynos  {"agent": A}   as if it had been told of none
  GET  /rogue          {"calls": {"register": N, ..}, "at": {"register": [MS, ..], ..}, "bytes": N, "left": N}
                       how often was called since then, and when; what was poured out, how many answers are
                       still to be spoiled

Kinds, with their members: FAULTS below.
"""
import sys
import time
from collections import Counter, defaultdict
from email.utils import formatdate

import controller
from fleet import Fleet
from http_server import need

CHUNK = b" " * 65536


def head(http, status="200 OK", type="application/json", **more):
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {type}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    http.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    http.wfile.flush()


def whole(http, body, status="200 OK", type="application/json", **more):
    head(http, status, type, Content_Length=len(body), **more)
    http.wfile.write(body)


def pour(http, state, n, pause=0, piece=CHUNK):
    """N bytes, or fewer: until the client has had enough."""
    while n > 0:
        state["bytes"] += http.wfile.write(piece[:n])
        http.wfile.flush()
        n -= len(piece)
        time.sleep(pause)


def status(http, f, state):
    """status, retry_after?: seconds, or "date:SECONDS" from now"""
    more = {}
    if "retry_after" in f:
        after = str(f["retry_after"])
        more["Retry_After"] = formatdate(time.time() + int(after[5:]), usegmt=True) if after[:5] == "date:" else after
    whole(http, b'{"error": {"message": "told to"}}', f"{f['status']} Told To", **more)


def redirect(http, f, state):
    """to"""
    whole(http, b"", "302 Found", Location=f["to"])


def answer(http, f, state):
    """body, type?, date?: an answer of status 200"""
    more = {"Date": f["date"]} if "date" in f else {}
    whole(http, f["body"].encode(), type=f.get("type", "application/json"), **more)


def deep(http, f, state):
    """depth: so many lists in one another"""
    whole(http, b'{"commands": ' + b"[" * f["depth"] + b"]" * f["depth"] + b"}")


def endless(http, f, state):
    """size, announced?: blanks in an object that never ends"""
    head(http, **({"Content_Length": f["size"]} if f.get("announced") else {}))
    http.wfile.write(b'{"commands": [')
    pour(http, state, f["size"])


def endless_head(http, f, state):
    """size: a header that never ends"""
    http.wfile.write(b"HTTP/1.1 200 OK\r\nX-Much: ")
    pour(http, state, f["size"], piece=b"x" * 65536)


def drip(http, f, state):
    """A byte every 300 ms."""
    head(http)
    http.wfile.write(b'{"commands": [')
    pour(http, state, 10_000, 0.3, b" ")


def silence(http, f, state):
    """Nothing at all."""
    time.sleep(300)


def cut(http, f, state):
    """Half of what it has announced."""
    head(http, Content_Length=1000)
    http.wfile.write(b'{"commands": [')


def not_http(http, f, state):
    http.wfile.write(b"220 mail.example ESMTP ready\r\n")


def hang_up(http, f, state):
    """Closed without a word."""


FAULTS = {f.__name__: f for f in
          (status, redirect, answer, deep, endless, endless_head, drip, silence, cut, not_http, hang_up)}


class RogueFleet(Fleet):
    def __init__(self, *args):
        super().__init__(*args)
        self.deliveries = {}

    def next_commands(self, id, after):
        return self.deliveries.pop(id, None) or super().next_commands(id, after)


class Rogue(controller.Controller):
    def __init__(self, *args):
        super().__init__(*args)
        self.faults, self.state, self.calls, self.at = [], {"bytes": 0}, Counter(), defaultdict(list)

    def agent_routes(self):
        return [(method, path, self.spoiled(path.rsplit("/", 1)[1], fn)) for method, path, fn in super().agent_routes()]

    def spoiled(self, call, good):
        def serve(http, body, agent):
            with self.fleet.lock:
                self.calls[call] += 1
                self.at[call].append(int(time.monotonic() * 1000))
                f = next((f for f in self.faults if call in f.get("calls", [call]) and f["times"] > 0), None)
                if f:
                    f["times"] -= 1
            if not f:
                return good(http, body, agent)
            return lambda http: FAULTS[f["kind"]](http, f, self.state)
        return serve

    def people_routes(self):
        return super().people_routes() + [
            ("POST", "/rogue/fault", self.set_fault), ("POST", "/rogue/deliver", self.deliver),
            ("POST", "/rogue/times", self.set_times), ("POST", "/rogue/forget-dynos", self.forget_dynos),
            ("GET", "/rogue", lambda http, body: {
                "calls": self.calls, "at": self.at, **self.state, "left": sum(f["times"] for f in self.faults)})]

    def set_fault(self, http, body):
        with self.fleet.lock:
            faults = body["all"] if "all" in body else [body] if body["kind"] else []
            if any(f["kind"] not in FAULTS for f in faults):
                raise controller.Refused(400, f"one of {', '.join(FAULTS)}")
            self.faults = [{"times": 10**9, **f} for f in faults]
            self.calls.clear()
            self.at.clear()
            self.state["bytes"] = 0
            return {}

    def deliver(self, http, body):
        need(body, agent=str, commands=list)
        with self.fleet.lock:
            self.fleet.deliveries[body["agent"]] = body["commands"]
            self.fleet.changed()
            return {}

    def forget_dynos(self, http, body):
        with self.fleet.lock:
            self.fleet.agents[body["agent"]].dynos.clear()
            return {}

    def set_times(self, http, body):
        with self.fleet.lock:
            self.fleet.times.update(body)
            return self.fleet.times


if __name__ == "__main__":
    controller.main(sys.argv[1:], Rogue, RogueFleet)
