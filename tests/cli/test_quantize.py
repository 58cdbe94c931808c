"""`sightline quantize`, and what other commands say of the folder that it wrote."""

import json
import resource
import subprocess
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from sightline.demo import MODEL_DIR


@pytest.fixture
def text_only(sightline) -> Path:
    return write_tiny_model(sightline.folder / "models" / "words", text_only=True)


def test_of_a_model_without_pictures_nothing_is_said_of_vision(sightline, text_only):
    done = sightline("quantize", "words:int4", "models/small")
    assert done.status == 0, done.err
    assert "models/small: int4, " in done.out
    (listed,) = (line for line in sightline("models").out.splitlines() if "small" in line)
    assert "chatglm int4 " in listed
    assert "parameters, " in sightline("inspect", "small").out
    told = [
        sightline("inspect", "small").out,
        sightline("fit", "small", "--memory", "4GB").out,
        sightline("fit", "words", "--int4", "--memory", "4GB").out,
        sightline("fit", "small", "--int8", "--memory", "4GB").err,
        sightline("quantize", "small", "other").err,
        listed,
        done.out,
    ]
    assert all("int4" in text for text in told)
    assert not [text for text in told if "vision" in text]
    report = json.loads(sightline("fit", "small", "--memory", "4GB", "--json").out)
    assert report["quantization"] == {"language": "int4", "vision": None}


def test_what_was_stored_without_pictures_may_be_asked_for_by_its_name(sightline, text_only):
    assert sightline("quantize", "words:int4", "models/small").status == 0
    for words in (["small:int4"], ["small", "--int4"]):
        assert sightline("fit", *words, "--memory", "4GB").status == 0


def test_the_command_that_fits_names_the_format_once(sightline):
    told = sightline("fit", "glm-4-9b-chat", "--int4", "--memory", "16GB").out
    assert "glm-4-9b-chat in int4 on " in told
    assert "sightline serve glm-4-9b-chat:int4 " in told


def test_the_command_that_runs_it_is_one_for_a_shell(sightline, text_only):
    done = sightline("quantize", "words", "models/小 模型")
    assert "sightline serve 'models/小 模型'" in done.out


def test_a_full_disk_leaves_nothing_and_has_the_status_of_one(sightline):
    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    done = subprocess.run(
        sightline.command("quantize", str(MODEL_DIR), "small"),
        cwd=sightline.folder,
        env=sightline.environ,
        preexec_fn=no_large_files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr == "sightline: Writing small failed: File too large.\n"
    assert not [path for path in sightline.folder.iterdir() if "small" in path.name]


def test_a_format_may_be_asked_for_in_the_words_of_fit(sightline, text_only):
    done = sightline("quantize", "words", "models/small", "--int4")
    assert done.status == 0, done.err
    assert "models/small: int4, " in done.out
    (listed,) = (line for line in sightline("models").out.splitlines() if "small" in line)
    assert "chatglm int4 " in listed


def test_two_formats_are_refused_by_name(sightline, text_only):
    for options in (["--int4", "--int8"], ["--int4", "--quantization", "int8"]):
        for command in (["quantize", "words", "models/small"], ["serve", "words"]):
            refused = sightline(*command, *options)
            assert refused.status == 2
            assert refused.err.startswith("sightline: These ask for different formats: --int")
            assert not (sightline.folder / "models" / "small").exists()
    agreed = sightline("quantize", "words", "models/small", "--int4", "--quantization", "int4")
    assert agreed.status == 0, agreed.err
