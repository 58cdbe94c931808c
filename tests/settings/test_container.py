"""What the Dockerfile takes for granted."""

import re
from pathlib import Path

from sightline.server.auth import OPEN_PATHS
from sightline.settings import DEFAULT_PORT

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_what_the_installation_reads_is_sent_to_the_builder() -> None:
    left_out = set((ROOT / ".dockerignore").read_text().split())
    project = (ROOT / "pyproject.toml").read_text()
    licences = re.findall(r'"(\w+)"', re.findall(r"license-files = .*", project)[0])
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "scripts", "src", *licences):
        assert (ROOT / name).exists()
        assert name not in left_out


def test_health_is_asked_where_the_server_listens_without_a_key() -> None:
    [(port, path)] = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)'", DOCKERFILE)
    assert int(port) == DEFAULT_PORT
    assert path in OPEN_PATHS
    assert f"EXPOSE {DEFAULT_PORT}\n" in DOCKERFILE


def test_models_are_kept_in_the_volume() -> None:
    assert "VOLUME /home/sightline/.cache/sightline\n" in DOCKERFILE
