"""http_server.py - HTTP/1.1 with JSON bodies over a table of routes; TLS per connection; no framework."""
import hmac
import json
import re
import socket
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from fleet import Refused

BODY_MAX = 8 << 20
IDLE_SEC = 120  # of a connection between two requests
HANDSHAKE_SEC = 10


def parse(body):
    """A JSON object, as strictly as the agent reads ours."""
    def once(pairs):
        if len({k for k, _ in pairs}) != len(pairs):
            raise ValueError("a member twice")
        return dict(pairs)

    def never(text):
        raise ValueError(f"{text} is no JSON")

    try:
        value = json.loads(body, object_pairs_hook=once, parse_constant=never)
    except (ValueError, RecursionError) as e:
        raise Refused(400, f"not JSON: {e}") from None
    if not isinstance(value, dict):
        raise Refused(400, "not an object")
    return value


def need(body, **types):
    """Checks members: need(body, seq=int). A tuple of types is a choice, an `_opt` name may be absent."""
    for name, kind in types.items():
        optional, name = name.endswith("_opt"), name.removesuffix("_opt")
        if name not in body:
            if optional:
                continue
            raise Refused(400, f"{name} is missing")
        value = body[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise Refused(400, f"{name} has the wrong type")
    return body


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, routes, tls=None, tokens=None, loopback_only=False):
        """ROUTES: [(method, "/path/{name}", function)]. TLS: an SSLContext or None. TOKENS: a function
        that returns the valid bearer tokens, or None: nobody has to show one. LOOPBACK_ONLY: for people
        on this machine, so a page of another origin may not use their browser to get in."""
        self.routes = [(method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[A-Za-z0-9._-]{1,64})", path) + r"\Z"), fn)
                       for method, path, fn in routes]
        self.tls, self.tokens, self.loopback_only = tls, tokens, loopback_only
        super().__init__(address, Handler)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # else: a client that went away, or no TLS
            traceback.print_exc()

    @property
    def url(self):
        host, port = self.server_address[:2]
        return f"{'https' if self.tls else 'http'}://{'localhost' if host == '127.0.0.1' else host}:{port}"

    def start(self):
        threading.Thread(target=self.serve_forever, args=(0.2,), daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "dynod-example-controller"
    sys_version = ""

    def setup(self):
        self.request.settimeout(HANDSHAKE_SEC)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.server.tls:
            # Here, in the connection's own thread: a slow client holds up nobody else.
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        self.request.settimeout(IDLE_SEC)
        super().setup()

    def finish(self):
        try:
            super().finish()
        finally:
            if self.server.tls:
                self.request.close()

    def log_message(self, *args):
        pass

    def do_GET(self):
        try:
            self.answer(*self.dispatch())
        except Refused as e:
            # What is left of a body that nobody read would look like the next request.
            self.close_connection = True
            self.answer(e.status, {"error": {"message": str(e)}})
        except OSError:
            self.close_connection = True  # the client is gone
        except Exception:
            traceback.print_exc()
            self.close_connection = True
            self.answer(500, {"error": {"message": "our own mistake"}})

    do_POST = do_DELETE = do_PUT = do_GET

    def dispatch(self):
        url = urlsplit(self.path)
        found = [(m, p.match(url.path), fn) for m, p, fn in self.server.routes if p.match(url.path)]
        if not found:
            raise Refused(404, "no such path")
        if self.command not in [m for m, _, _ in found]:
            raise Refused(405, f"only {', '.join(m for m, _, _ in found)}")
        self.authenticate()
        fn, match = next((fn, match) for m, match, fn in found if m == self.command)
        self.query = dict(parse_qsl(url.query))
        body = self.body() if self.command == "POST" else {}
        return 200, fn(self, body, **match.groupdict())

    def authenticate(self):
        if self.server.loopback_only:
            host = self.headers.get("Host", "")
            if host.rsplit(":", 1)[0] not in ("localhost", "127.0.0.1", "[::1]"):
                raise Refused(403, "only as localhost")
            if self.headers.get("Origin", f"http://{host}") != f"http://{host}":
                raise Refused(403, "not from another page")
        if self.server.tls and self.request.getpeercert():
            return  # TLS has verified it against our CA
        tokens = self.server.tokens() if self.server.tokens else None
        shown = self.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        if tokens is not None and not any(hmac.compare_digest(shown, t.encode()) for t in tokens):
            raise Refused(401, "no valid token, no valid certificate")

    def body(self):
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length):
            raise Refused(411, "Content-Length, please")
        if int(length) > BODY_MAX:
            raise Refused(413, f"more than {BODY_MAX} bytes")
        return parse(self.rfile.read(int(length)) or b"{}")

    def answer(self, status, value):
        """VALUE: JSON; bytes of a page; a generator of server-sent events; a function that writes it all."""
        if hasattr(value, "__next__"):
            return self.stream(value)
        if callable(value):
            self.close_connection = True
            return value(self)
        page = isinstance(value, bytes)
        # People get it indented.
        body = value if page else json.dumps(value, indent=2 if self.server.loopback_only else None).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8" if page else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)

    def stream(self, events):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in events:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
