"""What the story of networks runs on both sides: servers, probes, forgeries."""
import os
import socket
import struct
import sys
import threading
import time

# Never how long anything takes: what is refused is refused at once.
TIMEOUT = 20


def say(path, line):
    with open(path, "a") as f:
        f.write(line + "\n")


def talk(conn, peer, name):
    """Says who it is and who asks, then gives back whatever comes."""
    with conn:
        try:
            conn.sendall(f"{name} from {peer}\n".encode())
            while data := conn.recv(65536):
                conn.sendall(data)
        except OSError:
            pass


def serve(port, name, log=None):
    """TCP on all addresses; one line in LOG for each connection."""
    s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", port))
    s.listen(512)
    while True:
        conn, peer = s.accept()
        peer = peer[0].removeprefix("::ffff:")
        if log:
            say(log, f"tcp {conn.getsockname()[0].removeprefix('::ffff:')} from {peer}")
        threading.Thread(target=talk, args=(conn, peer, name), daemon=True).start()


def hear(port, log):
    """UDP on all addresses; one line in LOG for each datagram."""
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", port))
    while True:
        data, peer = s.recvfrom(2048)
        say(log, f"udp {data.decode()} from {peer[0].removeprefix('::ffff:')}")


def canary(log):
    threading.Thread(target=hear, args=(80, log), daemon=True).start()
    threading.Thread(target=hear, args=(53, log), daemon=True).start()
    serve(80, "canary", log)


def tcp(host, port):
    """What comes of a connection: the server's first line, or why none."""
    try:
        with socket.create_connection((host, int(port)), TIMEOUT) as s:
            s.settimeout(TIMEOUT)
            return s.makefile().readline().strip()
    except TimeoutError:
        return "timeout"
    except OSError as e:
        return e.strerror or str(e)


def udp(host, port, text):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.sendto(text.encode(), (host, int(port)))
        except OSError:
            pass


def many(host, port, count):
    """How many connections can be had at once."""
    kept = []
    for _ in range(int(count)):
        try:
            kept.append(socket.create_connection((host, int(port)), TIMEOUT))
            kept[-1].makefile().readline()
        except OSError:
            pass
    return sum(1 for s in kept if s.send(b"x"))


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def forge(source, dest, text):
    """A datagram to port 80 that says it comes from SOURCE. Root's, in the dyno's network."""
    data = text.encode() + b" " * (len(text) % 2)
    length = 8 + len(data)
    if ":" in dest:
        pair = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, dest)
        head = struct.pack("!IHBB", 6 << 28, length, 17, 64) + pair
        body = struct.pack("!HHHH", 4000, 80, length, 0) + data
        body = body[:6] + struct.pack("!H", checksum(pair + struct.pack("!II", length, 17) + body)) + body[8:]
        s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        s.setsockopt(socket.IPPROTO_IPV6, 36, 1)  # IPV6_HDRINCL
        s.sendto(head + body, (dest, 0))
    else:
        pair = socket.inet_aton(source) + socket.inet_aton(dest)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 7, 0, 64, 17, 0) + pair
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        s.sendto(head + struct.pack("!HHHH", 4000, 80, length, 0) + data, (dest, 0))


def arp(sender, target):
    """An ARP request out of eth0: who has TARGET? Tell SENDER."""
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(("eth0", 0))
    mac = s.getsockname()[4]
    s.send(b"\xff" * 6 + mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac
           + socket.inet_aton(sender) + b"\0" * 6 + socket.inet_aton(target))


def pull(host, port, count):
    """How long COUNT bytes take there and back, in milliseconds."""
    with socket.create_connection((host, int(port)), TIMEOUT) as s:
        s.settimeout(60)
        threading.Thread(target=s.sendall, args=(b"x" * int(count),), daemon=True).start()
        began, left = time.monotonic(), int(count)
        while left > 0:
            left -= len(s.recv(65536))
        return int((time.monotonic() - began) * 1000)


def main():
    verb, *args = sys.argv[1:]
    if verb == "serve":
        serve(int(os.environ["PORT"]), os.environ["DYNO"])
    elif verb == "host":
        serve(int(args[0]), "host")
    else:
        result = {"canary": canary, "tcp": tcp, "udp": udp, "many": many, "forge": forge, "arp": arp, "pull": pull}[verb](*args)
        if result is not None:
            print(result)


main()
