import signal
from pathlib import Path

import pytest

from sightline.backends import deaths


def test_an_exit_is_told_in_words() -> None:
    assert deaths.describe_exit(3) == "ended with status 3"
    assert "signal 9" in deaths.describe_exit(-signal.SIGKILL)
    assert deaths.describe_exit(-signal.SIGSEGV) == "was killed by signal 11"


@pytest.mark.parametrize(
    ("content", "number"), [("pgfault 7\noom_kill 3\npswpin 1\n", 3), ("pgfault 7\n", None)]
)
def test_the_kernel_says_how_often_memory_ran_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, number: int | None
) -> None:
    counters = tmp_path / "vmstat"
    monkeypatch.setattr(deaths, "_COUNTERS", counters)
    assert deaths.count_memory_kills() is None
    counters.write_text(content)
    assert deaths.count_memory_kills() == number
