import pytest

from sightline.cli.terminal import ProgressBar, ends_cleanly, printable
from sightline.client.errors import ClientError
from sightline.core.errors import StartupError


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
