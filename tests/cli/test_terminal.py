import json
import shutil
import subprocess
from pathlib import Path

import pytest

from sightline.cli.terminal import ProgressBar, ends_cleanly, printable
from sightline.client.errors import ClientError
from sightline.core.errors import StartupError
from sightline.demo import MODEL_DIR


@pytest.mark.parametrize("text", ["圆形\t一\n二", "👨‍👩‍👧", "no\u00a0break", "全角\u3000空格", "é"])
def test_what_people_write_is_printable(text):
    assert printable(text) == text


@pytest.mark.parametrize("code", ["\x1b", "\x07", "\r", "\x9b", "\x7f", "\u202e", "\x00"])
def test_what_steers_a_terminal_is_not(code):
    assert printable(f"a{code}b") == "ab"


@pytest.mark.parametrize(
    ("error", "status", "shown"),
    [
        (StartupError("No port."), 2, "sightline: No port.\n"),
        (ClientError("Refused."), 1, "sightline: Refused.\n"),
        (ClientError("two\nlines\x1b[1m"), 1, "sightline: two lines[1m\n"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_a_failure_is_one_line_and_a_status(error, status, shown, capsys):
    @ends_cleanly
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == status
    assert capsys.readouterr().err == shown


def test_a_bug_is_not_hidden():
    @ends_cleanly
    def command() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        command()


def test_progress_is_shown_on_a_terminal_only(capsys):
    bar = ProgressBar("Loading")
    bar.update(1, 2)
    bar.clear()
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", [["models"], ["fit", "--memory", "4GB", "--json"], ["--help"]])
def test_output_that_finds_the_disk_full_ends_in_a_line(sightline, words):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            sightline.command(*words),
            cwd=sightline.folder,
            env=sightline.environ,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr.decode() == (
        "sightline: What was to be written did not fit on the disk; free some space.\n"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gb18030", "utf-8"])
def test_json_names_a_folder_in_every_encoding(sightline, encoding):
    shutil.copytree(MODEL_DIR, sightline.folder / "我的 模型")
    for words in (["inspect", "我的 模型"], ["fit", "我的 模型", "--memory", "4GB"]):
        done = subprocess.run(
            sightline.command(*words, "--json"),
            cwd=sightline.folder,
            env=sightline.environ | {"PYTHONIOENCODING": encoding},
            capture_output=True,
            check=True,
        )
        assert json.loads(done.stdout.decode(encoding))["folder"] == "我的 模型"


def test_a_reader_that_leaves_is_no_news(sightline):
    with subprocess.Popen(
        sightline.command("inspect", "glm-4v-9b", "--json"),
        cwd=sightline.folder,
        env=sightline.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1
