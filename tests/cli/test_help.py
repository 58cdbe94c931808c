import resource
import subprocess
import sys

import pytest

from sightline.cli import catalogue
from sightline.settings import rows

HEAVY = ("torch", "transformers", "starlette", "pydantic", "httpx2", "numpy", "PIL", "uvicorn")
COMMANDS = ("serve", "ask", "chat", "models", "keys", "config", "version")


def test_help_loads_nothing_heavy(sightline):
    program = (
        "import sys; sys.argv = ['sightline', '--help']\n"
        "from sightline.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr.strip() == b"[]"


def test_help_is_instant(sightline):
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        sightline("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    # Processor time, because the machine may be busy with others: 0.13 s of it when it is not.
    assert min(seconds() for _ in range(3)) < 0.3


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, sightline):
    outcome = sightline(command, "--help")
    assert outcome.status == 0
    assert f"sightline {command}" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        (("--lang", "zh", "--help"), {}),
        (("ask", "--lang=zh", "--help"), {}),
        (("--help",), {"LANG": "zh_CN.UTF-8"}),
        (("--help",), {"SIGHTLINE_LANG": "zh"}),
    ],
)
def test_help_speaks_chinese_when_asked(arguments, environ, sightline):
    assert "提问" in sightline(*arguments, **environ).out


def test_an_unknown_language_is_refused(sightline):
    outcome = sightline("--lang", "fr", "version")
    assert (outcome.status, outcome.out) == (2, "")
    assert "not one of zh, en" in outcome.err


def test_the_catalogue_has_both_languages_with_the_same_values():
    def values(text: str) -> set[str]:
        return {piece.split("}")[0].split(":")[0] for piece in text.split("{")[1:]}

    for key, (english, chinese) in catalogue.TEXTS.items():
        assert chinese, key
        if not key.startswith("error."):
            assert values(english) == values(chinese), key


def test_every_setting_has_a_chinese_sentence():
    named = {row.name for row in rows().values() if row.section != "limits"}
    assert named == set(catalogue.SETTINGS_ZH)
