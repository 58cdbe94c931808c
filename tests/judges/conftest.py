"""Judges: other people's clients, unmodified, against a running server of ours.

`scripts/judges.py` starts the server, gives each judge the environment its client needs, and writes
docs/compatibility.md. Nothing here knows sightline but by HTTP.
"""

import base64
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def pytest_configure(config: pytest.Config) -> None:
    """Say in one line what is missing, before every client's import fails."""
    if config.rootpath == Path(__file__).parent and "JUDGED_URL" not in os.environ:
        raise pytest.UsageError("judges need a server and their clients: python scripts/judges.py")


@dataclass(frozen=True)
class Server:
    url: str
    key: str
    model: str

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"


@pytest.fixture(scope="session")
def server() -> Server:
    return Server(
        os.environ["JUDGED_URL"], os.environ["JUDGED_KEY"], os.environ.get("JUDGED_MODEL", "glm-4v")
    )


@pytest.fixture(scope="session")
def circle() -> bytes:
    """A picture of a red circle."""
    return (EXAMPLES / "circle.png").read_bytes()


@pytest.fixture(scope="session")
def circle_url(circle: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(circle).decode()}"
