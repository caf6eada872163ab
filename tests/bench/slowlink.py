"""slowlink.py - a TCP proxy on loopback that is as far away as it is told, for measuring downloads.

Loopback has no latency, and not every kernel can add some (netem). This holds each byte back for half
a round trip, a connection for a whole one before its first byte, and lets a connection have no more
bytes under way than its window: it begins with INITIAL_WINDOW bytes, grows by what has been
acknowledged (TCP's slow start, RFC 5681), and ends at MAX_WINDOW, what Linux gives a receiver that has
set nothing. So one connection is as fast as it would be over such a link that loses nothing.

usage: slowlink.py LISTEN_PORT TARGET_PORT ROUND_TRIP_MS          (until it is killed)
"""
import asyncio
import collections
import sys
import time

INITIAL_WINDOW = 10 * 1460
MAX_WINDOW = 3 << 20  # half of tcp_rmem's 6 MiB: the other half is the kernel's own use
CHUNK = 256 << 10


class Direction:
    """Bytes of one direction of one connection."""

    def __init__(self, reader, writer, half):
        self.reader, self.writer, self.half = reader, writer, half
        self.window = INITIAL_WINDOW
        self.sent = 0
        self.unacknowledged = collections.deque()  # (when it will be, length)
        self.queue = asyncio.Queue()

    def acknowledge(self, now):
        while self.unacknowledged and self.unacknowledged[0][0] <= now:
            n = self.unacknowledged.popleft()[1]
            self.sent -= n
            self.window = min(MAX_WINDOW, self.window + n)

    async def take(self):
        while True:
            now = time.monotonic()
            self.acknowledge(now)
            room = self.window - self.sent
            if room <= 0:
                await asyncio.sleep(self.unacknowledged[0][0] - now)
                continue
            data = await self.reader.read(min(room, CHUNK))
            now = time.monotonic()
            self.sent += len(data)
            self.unacknowledged.append((now + 2 * self.half, len(data)))
            await self.queue.put((now + self.half, data))
            if not data:
                return

    async def give(self):
        while True:
            due, data = await self.queue.get()
            await asyncio.sleep(due - time.monotonic())
            if not data:
                self.writer.write_eof()
                return
            self.writer.write(data)
            await self.writer.drain()

    async def run(self):
        await asyncio.gather(self.take(), self.give())


async def serve(listen, target, half):
    async def client(reader, writer):
        await asyncio.sleep(2 * half)  # the handshake's round trip
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target, limit=4 * CHUNK)
            await asyncio.gather(Direction(reader, far_writer, half).run(),
                                 Direction(far_reader, writer, half).run())
            far_writer.close()
        except OSError:
            pass  # whoever broke it knows
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", listen)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 2000))
