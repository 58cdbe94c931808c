"""What `--debug-engine` prints, and the worked example of docs/architecture.md."""

import logging
import re
from pathlib import Path

import pytest
from pretend_device import PretendDevice, sequence

from sightline.engine.contract import StepResult
from sightline.engine.sampler import BadLogits, Sampled
from sightline.engine.scheduler import Scheduler
from sightline.engine.step_log import StepLine

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"
PICTURE = b"the picture"


def test_the_worked_example_is_what_the_scheduler_does(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler(
        num_blocks=16,
        block_size=16,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        embedding_cache_bytes=100,
    )
    device = PretendDevice(scheduler)
    scheduler.add(sequence([1] * 40, name="a"))
    for name, question in (("b", 3), ("c", 4)):
        prompt = [2] * 10 + [99] * 50 + [question] * 10
        scheduler.add(sequence(prompt, images=[(PICTURE, 10, 50)], name=name))
    caplog.set_level(logging.INFO, "sightline.engine.steps")
    for number in range(1, 5):
        plan = scheduler.plan()
        line = StepLine(number, plan, scheduler)
        before = device.num_encoded
        tokens = device.compute(plan)
        said = {s: [Sampled(token) for token in ids] for s, ids in tokens.items()}
        result = StepResult(said, device.num_encoded - before, 0.3)
        line.write(result, 0.35)
        for chunk in plan.chunks:
            if chunk.samples:
                chunk.sequence.answer.append(1)
                chunk.sequence.num_promised -= 1
            scheduler.settle(chunk)
    lines = [re.sub(r" in \d+ ms| \| [\d.]+ ms", "", message) for message in caplog.messages]
    documented = re.findall(r"^ *(step \d.*)$", ARCHITECTURE.read_text("utf-8"), re.MULTILINE)
    assert documented == lines


def test_who_failed_and_who_gave_way_is_said(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler(num_blocks=3, block_size=4, max_num_seqs=2, max_num_batched_tokens=16)
    first, second = (sequence([n] * 4, max_tokens=6, name=f"{n}.secret") for n in (1, 2))
    scheduler.add(first)
    scheduler.add(second)
    caplog.set_level(logging.INFO, "sightline.engine.steps")
    for _ in range(2):
        plan = scheduler.plan()
        for chunk in plan.chunks:
            chunk.sequence.answer.append(1)
            chunk.sequence.num_promised -= 1
            scheduler.settle(chunk)
    StepLine(2, plan, scheduler).write(StepResult({first: BadLogits()}), 0.1)
    assert "no block was left: 2 (time 1) gave way" in caplog.messages[0]
    assert "failed 1" in caplog.messages[0]
    assert "secret" not in caplog.text
