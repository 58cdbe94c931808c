"""A server of our own to attack: the real front, real decode workers, an engine that echoes.

    python -m tests.abuse.server --key K [--media-host HOST:PORT] [--limit NAME=VALUE]

Prints its URL. For every line on standard input it prints, as JSON, how many seconds its event loop
was held up at the worst since the line before; it ends with its input.
"""

import argparse
import asyncio
import json
import sys
import threading
import time

from sightline.assembly import House
from sightline.plan import listen, plan
from sightline.settings import resolve

TICK_S = 0.005


class Ticker:
    """Wakes the loop all the time and notes how late it is.

    On a busy machine a tick may be late because nobody ran: only time in which this process
    computed counts.
    """

    def __init__(self) -> None:
        self._worst_s = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, computed = loop.time() + TICK_S, time.process_time()
            await asyncio.sleep(TICK_S)
            late_s = min(loop.time() - due, time.process_time() - computed)
            self._worst_s = max(self._worst_s, late_s)

    def take(self) -> float:
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--key", default="")
    parser.add_argument("--media-host", action="append", default=[])
    parser.add_argument("--limit", action="append", default=[])
    arguments = parser.parse_args()
    limits = dict(pair.split("=", 1) for pair in arguments.limit)
    settings = resolve(
        {
            "engine": "fake",
            "port": "0",
            "api_key": [arguments.key] if arguments.key else None,
            "allow_media_host": arguments.media_host or None,
            **limits,
        },
        environ={},
    )
    with listen(settings) as listener:
        house = House(plan(settings, listener), on_progress=lambda done, total: None)
        ticker = Ticker()

        def answer() -> None:
            for _ in sys.stdin:
                print(json.dumps(ticker.take()), flush=True)
            house.stop()

        async def run() -> None:
            ticking = asyncio.create_task(ticker.run())
            await house.run(on_ready=lambda info, names: print(listener.url, flush=True))
            ticking.cancel()

        threading.Thread(target=answer, daemon=True).start()
        asyncio.run(run())


if __name__ == "__main__":
    main()
