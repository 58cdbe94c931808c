import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_configuration_and_command_pages_are_up_to_date():
    script = ROOT / "scripts" / "write_docs.py"
    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
