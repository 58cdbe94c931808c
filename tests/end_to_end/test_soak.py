"""Twenty minutes of mixed traffic: the memory of a server must not grow with what it has served.

    pytest -m long tests/end_to_end/test_soak.py

A control run plants a leak of 16 KiB per request in the front and must see it. SIGHTLINE_SOAK_S
shortens both.
"""

import os
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from picture_files import data_url, encode, quarters
from served import PATIENCE_S, Served, children, serving

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

SOAK_S = float(os.environ.get("SIGHTLINE_SOAK_S", "1200"))
NUM_CLIENTS = 8
SAMPLE_S = 2.0
PICTURES = [data_url(encode(quarters(32 + n, 32), "PNG")) for n in range(50)]
MAX_SLOPE = 0.01  # of the memory at the beginning, over the whole run


def memory_bytes(pid: int) -> int:
    """Memory of the process and its children that nobody else has, swapped out or not."""
    total = 0
    for process in (pid, *children(pid)):
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except FileNotFoundError:  # a decode worker that was replaced meanwhile
            continue
        sizes = dict(line.split(":", 1) for line in lines if line.startswith(("RssAnon", "VmSwap")))
        total += sum(int(size.split()[0]) * 1024 for size in sizes.values())
    return total


def request(client: httpx2.Client, served: Served, dice: random.Random) -> None:
    """30 % pictures, 50 % streams, 10 % aborts, 10 % errors."""
    content: object = f"question {dice.random()}"
    if dice.random() < 0.3:
        picture = {"type": "image_url", "image_url": {"url": dice.choice(PICTURES)}}
        content = [picture, {"type": "text", "text": "What is this?"}]
    body = {
        "model": "glm-4v",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": dice.randint(1, 16),
        "stream": dice.random() < 0.5,
    }
    is_wrong, leaves = dice.random() < 0.1, dice.random() < 0.1
    if is_wrong:
        body["temperature"] = "warm"
    url = f"{served.url}/v1/chat/completions"
    with client.stream("POST", url, json=body) as response:
        assert response.status_code == (400 if is_wrong else 200)
        for _ in response.iter_bytes():
            if leaves:
                return


def soak(served: Served, seconds: float) -> tuple[int, list[tuple[float, int]]]:
    """Return how many requests there were, and (seconds, bytes) over the run."""
    ends_at = time.monotonic() + seconds

    def work(number: int) -> int:
        dice, count = random.Random(number), 0
        with httpx2.Client(trust_env=False, timeout=PATIENCE_S) as client:
            while time.monotonic() < ends_at:
                request(client, served, dice)
                count += 1
        return count

    samples = []
    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        working = [pool.submit(work, number) for number in range(NUM_CLIENTS)]
        began = time.monotonic()
        while time.monotonic() < ends_at:
            time.sleep(SAMPLE_S)
            samples.append((time.monotonic() - began, memory_bytes(served.pid)))
        counts = [one.result() for one in working]
    assert min(counts) > 0
    return sum(counts), samples


def growth(samples: list[tuple[float, int]]) -> float:
    """Return the growth over the last three quarters, as a share: the median of pairwise slopes."""
    kept = samples[len(samples) // 4 :]
    step = max(1, len(kept) // 100)
    kept = kept[::step]
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for index, earlier in enumerate(kept)
        for later in kept[index + 1 :]
    ]
    return statistics.median(slopes) * (kept[-1][0] - kept[0][0]) / kept[0][1]


LEAK = """
from sightline.backends.ledger import Ledger
kept, open_request = [], Ledger.open
def leaking(self, *arguments, **named):
    kept.append(bytes(16 * 1024))
    return open_request(self, *arguments, **named)
Ledger.open = leaking
"""


def growth_of_a_server(folder: Path, **environ: str) -> float:
    """Serve the bundled model with caches that fill while it warms up, and soak it.

    What fills slowest is oneDNN's: a kernel for every number of rows that steps happen to have.
    """
    with serving(folder, "--kv-cache-memory", "32MiB", **environ) as served:
        soak(served, SOAK_S / 4)
        count, samples = soak(served, SOAK_S)
        found = growth(samples)
        print(f"{count} requests, {samples[-1][1] / 2**20:.0f} MiB, growth {found:.2%}")
        return found


def test_memory_does_not_grow_with_what_was_served(tmp_path: Path) -> None:
    assert growth_of_a_server(tmp_path) < MAX_SLOPE


def test_a_planted_leak_is_seen(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(LEAK)
    assert growth_of_a_server(tmp_path, PYTHONPATH=str(tmp_path)) > MAX_SLOPE
