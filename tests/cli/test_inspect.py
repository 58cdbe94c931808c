"""`sightline inspect`: what a model is made of, before anything is downloaded, without torch."""

import json
import subprocess
import sys

import pytest

from sightline.cli import inspect
from sightline.cli.columns import columns, size, width
from sightline.demo import MODEL_DIR
from sightline.hub.facts import facts_of
from sightline.hub.known import known_folder
from sightline.hub.names import KNOWN_MODELS, find_model
from sightline.models.quantization import choose_quantization


def test_glm_4v_9b_is_told_before_it_is_downloaded(sightline):
    outcome = sightline("inspect", "glm-4v")
    assert outcome.status == 0, outcome.err
    lines = [line.strip() for line in outcome.out.splitlines()]
    assert "13,906,320,896 parameters, 27.81 GB in bfloat16" in lines
    assert any(line.startswith("(0-39): 40 x GLMBlock") for line in lines)
    assert any(line.startswith("(0-62): 63 x TransformerLayer") for line in lines)
    assert "any size  1120 x 1120  80 x 80 / 2 x 2    1,602          3         65.62 MB" in lines
    assert any("40 x 2 x 2 x 128 x 2 = 40.96 kB" in line for line in lines)
    parts = {line[:16].strip(): line.split() for line in lines}
    assert parts["vision tower"][2] == "4,291,915,264"
    assert parts["connector"][1] == "214,454,272"
    assert parts["language model"][2] == "8,158,437,376"
    assert parts["token embeddings"][2] == "620,756,992"


def test_it_speaks_chinese_in_straight_columns(sightline):
    outcome = sightline("--lang", "zh", "inspect", "glm-4v-9b")
    assert "视觉塔" in outcome.out
    table = outcome.out[outcome.out.index("部分") :].split("\n\n")[0].splitlines()
    assert len({width(line) for line in table}) == 1


@pytest.mark.parametrize("known", KNOWN_MODELS, ids=lambda known: known.name)
def test_every_known_model_can_be_inspected(known):
    report = inspect.report(facts_of(known.name, ()))
    assert (report["name"], report["folder"]) == (known.name, None)
    assert sum(part["num_parameters"] for part in report["parts"]) == report["num_parameters"]
    assert report["weight_bytes"] == 2 * report["num_parameters"]
    assert report["formats"]["int4"] < report["formats"]["int8"] < report["weight_bytes"]
    assert bool(report["pictures"]) == ("vl" in known.name or "4v" in known.name)


def test_a_folder_with_a_config_alone_is_enough(sightline, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    config = known_folder(find_model("qwen2-vl-2b")) / "config.json"
    (folder / "config.json").write_text(config.read_text())
    mine = json.loads(sightline("inspect", str(folder), "--json").out)
    assert mine["folder"] == str(folder)
    report = inspect.report(facts_of("qwen2-vl-2b", ()))
    assert mine["structure"] == report["structure"]


def test_of_a_quantised_model_every_size_is_what_is_stored(sightline, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    config = json.loads((MODEL_DIR / "config.json").read_text())
    config["quantization_config"] = choose_quantization("int4", None).to_config()
    (folder / "config.json").write_text(json.dumps(config))
    lines = sightline("inspect", str(folder)).out.splitlines()
    assert lines[1] == "5,996,736 parameters, 5.95 MB in int4, vision int8"
    rows = {line.split()[0]: line.split("  ")[-1].strip() for line in lines if line}
    assert rows["ChatGLMForConditionalGeneration"] == "5.95 MB"
    # 512 x 192 bytes and 512 scales of 4, and 512 biases of 2.
    assert rows["(fc1):"] == size(512 * 192 + 512 * 4 + 512 * 2)
    assert rows["(word_embeddings):"] == size(1280 * 256 * 2)
    # 4 bits each, and 16 + 16 bits for every 32 of them.
    assert rows["(dense_h_to_4h):"] == size(256 * 512 + 512 * 4)
    assert rows["(0-3):"] == size(4 * 370_688)


def test_the_bundled_model_is_what_is_inspected_without_a_name(sightline):
    report = json.loads(sightline("inspect", "--json").out)
    assert report["name"] == "sightline-demo"
    assert report["structure"]["class"] == "ChatGLMForConditionalGeneration"


@pytest.mark.parametrize(
    ("name", "config", "told"),
    [
        ("glm-5v", None, "glm-4v-9b"),
        ("./here", "{}", "'model_type' is missing"),
        ("./here", '{"model_type": "llama"}', "'llama' is not supported yet"),
        ("./here", '{"model_type": "chatglm"}', "is missing; supported"),
        ("./here", "no json", "not JSON"),
    ],
)
def test_what_cannot_be_inspected_is_one_line(name, config, told, sightline):
    if config is not None:
        (sightline.folder / "here").mkdir()
        (sightline.folder / "here" / "config.json").write_text(config)
    outcome = sightline("inspect", name)
    assert (outcome.status, outcome.out) == (2, "")
    assert told in outcome.err
    assert outcome.err.count("\n") == 1


def test_inspecting_loads_no_torch():
    program = (
        "import sys; sys.argv = ['sightline', 'inspect', 'glm-4v-9b']\n"
        "from sightline.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'numpy') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr.strip() == b"[]"


def test_sizes_are_decimal():
    assert [size(n) for n in (999, 40_960, 65_618_000, 27_812_641_792)] == [
        "999 B",
        "40.96 kB",
        "65.62 MB",
        "27.81 GB",
    ]


def test_chinese_characters_take_two_places():
    assert columns([("部分", "1"), ("ab", "10")], "<>") == ["部分   1", "ab    10"]
