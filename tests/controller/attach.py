#!/usr/bin/env python3
"""attach.py - the platform's end of an attach: somebody's terminal for a one-off on an instance.

  attach.py --cert server.pem --key server.key --people 127.0.0.1:7081 --app shop -- bash

listens with TLS, has the controller on --people start the one-off with our address and a secret, and
is its terminal: with a terminal of ours the command gets one of its size, else pipes. The exit status
is the command's. Without --people the address and the secret are only told (--ready FILE, as JSON, or
stderr), for whoever gives the command.

docs/protocol.md, "Attaching to a one-off", is what this speaks. One connection, one thread: nothing is
read that could not be written, in either direction.
"""
import argparse
import contextlib
import fcntl
import hmac
import json
import os
import secrets
import select
import signal
import socket
import ssl
import struct
import sys
import termios
import time
import tty
import urllib.request

HEAD, PAYLOAD_MAX = 5, 65536
CHUNK = 16384
BROKEN = 125   # our own failure, as env(1) and docker have it


class Broken(Exception):
    """The other end does not speak as it should, or is not there."""


def frame(kind, data=b""):
    if not isinstance(data, bytes):
        data = json.dumps(data).encode()
    return kind.encode() + struct.pack(">I", len(data)) + data


def parse(buf):
    """The first whole frame of BUF, taken out of it; None when there is none yet."""
    if len(buf) < HEAD:
        return None
    kind, size = struct.unpack(">cI", buf[:HEAD])
    if kind not in b"HOEX" or size > PAYLOAD_MAX:
        raise Broken(f"a frame {kind!r} of {size} bytes")
    if len(buf) < HEAD + size:
        return None
    data = bytes(buf[HEAD:HEAD + size])
    del buf[:HEAD + size]
    return kind.decode(), data


class Stream:
    """Frames over a TLS connection that never blocks."""

    def __init__(self, conn):
        self.conn, self.inbox, self.outbox, self.closed = conn, bytearray(), bytearray(), False
        conn.setblocking(False)

    def send(self, kind, data=b""):
        self.outbox += frame(kind, data)

    def move(self):
        """Sends and receives what can be without waiting. TLS holds bytes that select does not see, so it reads
        until there are none. At most one frame more than needed is kept."""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while self.outbox:
                del self.outbox[:self.conn.send(self.outbox)]
        try:
            while len(self.inbox) < HEAD + PAYLOAD_MAX:
                data = self.conn.recv(CHUNK)
                if not data:
                    self.closed = True
                    break
                self.inbox += data
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as e:
            raise Broken(str(e)) from e

    def next(self):
        return parse(self.inbox)

    def wait_frame(self, deadline):
        while True:
            self.move()
            found = self.next()
            if found:
                return found
            left = deadline - time.monotonic()
            if self.closed or left <= 0:
                raise Broken("the agent went away" if self.closed else "the agent says nothing")
            select.select([self.conn], [], [], left)


def window():
    """The size of our terminal, or nothing."""
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            rows, cols, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
            if rows and cols:
                return {"rows": rows, "cols": cols}
    return {}


@contextlib.contextmanager
def raw_terminal(on):
    """Keys go to the command as they are pressed; its terminal echoes them."""
    if not on:
        yield
        return
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSAFLUSH, before)


@contextlib.contextmanager
def signals_as_bytes(*wanted):
    """A descriptor from which the numbers of these signals are read."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno())
    before = {n: signal.signal(n, lambda *_: None) for n in wanted}
    try:
        yield ours
    finally:
        for n, old in before.items():
            signal.signal(n, old)
        signal.set_wakeup_fd(-1)
        ours.close()
        theirs.close()


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


def take_signals(stream, numbers, is_tty):
    for n in numbers:
        if n == signal.SIGWINCH and is_tty:
            stream.send("W", window())
        elif n != signal.SIGWINCH and not is_tty:
            stream.send("S", {"signal": n})


def pump(stream, is_tty, signals):
    """Until X: the exit status. Our stdin is read only while little waits to be sent; the agent only after what it
    sent last was written."""
    stdin_open = True
    while True:
        stream.move()
        while found := stream.next():
            kind, data = found
            if kind == "X":
                end = json.loads(data)
                if end["error"]:
                    print(end["error"], file=sys.stderr)
                return end["status"]
            write_all(2 if kind == "E" else 1, data)
            stream.move()
        if stream.closed:
            raise Broken("the agent went away")
        reads = [stream.conn, signals]
        if stdin_open and len(stream.outbox) < PAYLOAD_MAX:
            reads.append(0)
        ready, _, _ = select.select(reads, [stream.conn] if stream.outbox else [], [])
        if signals in ready:
            take_signals(stream, signals.recv(64), is_tty)
        if 0 in ready:
            data = os.read(0, CHUNK)
            stdin_open = bool(data)
            stream.send("I", data)


def accept(ear, ctx, secret, deadline):
    """The one who knows the secret; who does not is hung up on, and the wait goes on."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([ear], [], [], left)[0]:
            raise Broken("no agent came")
        conn, who = ear.accept()
        try:
            conn.settimeout(min(10, max(left, 0.1)))
            stream = Stream(ctx.wrap_socket(conn, server_side=True))
            kind, data = stream.wait_frame(deadline)
            hello = json.loads(data)
            if kind == "H" and hmac.compare_digest(hello["secret"].encode(), secret.encode()):
                return stream, hello
            print(f"{who[0]}: a wrong secret", file=sys.stderr)
        except (Broken, OSError, ValueError, KeyError, AttributeError, TypeError) as e:
            print(f"{who[0]}: {e}", file=sys.stderr)
        conn.close()


def order(a, url, secret, is_tty):
    """Has the controller start the one-off; says where."""
    spec = {"attach": {"url": url, "secret": secret}}
    spec |= {"argv": a.argv} if len(a.argv) > 1 else {"command": a.argv[0]}
    if is_tty:
        spec["tty"] = window() | {"term": os.environ.get("TERM", "xterm")}
    rq = urllib.request.Request(f"http://{a.people}/v1/apps/{a.app}/run", json.dumps(spec).encode(),
                                {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(rq, timeout=60) as answer:
            said = json.load(answer)
    except OSError as e:
        raise Broken(f"the controller: {e}") from e
    result = said.get("result") or {}
    if result.get("status") not in (None, "done"):
        raise Broken(f"the agent: {(result.get('error') or {}).get('message', result['status'])}")
    print(f"Running on {said.get('agent')}... {(result.get('answer') or {}).get('dyno', '')}", file=sys.stderr)


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("--listen", default="127.0.0.1:0", help="HOST:PORT; port 0: any")
    p.add_argument("--name", default="localhost", help="the host that agents dial; the certificate is for it")
    p.add_argument("--cert", required=True)
    p.add_argument("--key", required=True)
    p.add_argument("--client-ca", help="agents have to show a certificate of this CA")
    p.add_argument("--secret", help="made when it is not given")
    p.add_argument("--ready", help="a file for {\"url\", \"secret\"}, written when we listen")
    p.add_argument("--wait", type=float, default=40, help="seconds for the agent to come")
    p.add_argument("--no-tty", action="store_true", help="pipes, even at a terminal")
    p.add_argument("--people", help="the example controller's page, HOST:PORT")
    p.add_argument("--app")
    p.add_argument("argv", nargs="*", help="the command, with --people and --app; one word: for the shell")
    a = p.parse_args()
    if bool(a.people) != bool(a.app and a.argv):
        p.error("--people, --app and a command go together")
    return a


def listen(a):
    host, port = a.listen.rsplit(":", 1)
    ear = socket.create_server((host.strip("[]"), int(port)), family=socket.AF_INET6 if "[" in host else socket.AF_INET)
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(a.cert, a.key)
    if a.client_ca:
        ctx.load_verify_locations(a.client_ca)
        ctx.verify_mode = ssl.CERT_REQUIRED
    return ear, ctx, f"tls://{a.name}:{ear.getsockname()[1]}"


def tell(a, url, secret):
    if a.ready:
        with open(a.ready + ".new", "w", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            json.dump({"url": url, "secret": secret}, f)
        os.rename(a.ready + ".new", a.ready)
    elif not a.people:
        print(json.dumps({"url": url, "secret": secret}), file=sys.stderr)


def main():
    a = options()
    is_tty = os.isatty(0) and os.isatty(1) and not a.no_tty
    secret = a.secret or secrets.token_urlsafe(32)
    deadline = time.monotonic() + a.wait
    try:
        ear, ctx, url = listen(a)
        tell(a, url, secret)
        if a.people:
            order(a, url, secret, is_tty)
        stream, hello = accept(ear, ctx, secret, deadline)
        ear.close()
        with signals_as_bytes(signal.SIGINT, signal.SIGTERM, signal.SIGWINCH) as signals, \
                raw_terminal(is_tty and hello.get("tty")):
            stream.send("R", window() if hello.get("tty") else {})
            return pump(stream, hello.get("tty"), signals)
    except (Broken, OSError) as e:
        print(f"attach.py: {e}", file=sys.stderr)
        return BROKEN


if __name__ == "__main__":
    sys.exit(main())
