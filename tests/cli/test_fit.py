"""`sightline fit`: the arithmetic and the verdict, and what starts only if it fits."""

import json
import shutil

import pytest

from sightline.demo import MODEL_DIR
from sightline.models.quantization import choose_quantization


def fit(sightline, *arguments):
    return json.loads(sightline("fit", *arguments, "--json").out)


def test_a_24_gb_machine_is_told_why_not_bf16_and_what_to_do(sightline):
    outcome = sightline("fit", "glm-4v-9b", "--memory", "20GB", "--device", "cpu")
    assert outcome.status == 1
    lines = outcome.out.splitlines()
    assert any(line.startswith("Weights") and "27.81 GB" in line for line in lines)
    assert any("8,192 tokens x 1 at once x 40.96 kB" in line for line in lines)
    assert any(line.startswith("It does not fit:") for line in lines)
    assert any(
        line.startswith("Why: the weights in bfloat16 alone take 27.81 GB") for line in lines
    )
    assert any(line.startswith("What fits: int8") and "sightline serve" in line for line in lines)


def test_a_context_beyond_the_models_is_cut_and_said(sightline):
    words = ("fit", "glm-4v-9b", "--memory", "80GB", "--context")
    assert "made for at most 8,192 tokens; 100,000 are wanted" in sightline(*words, "100000").out
    assert "made for at most" not in sightline(*words, "8192").out
    assert fit(sightline, *words[1:], "100000")["context"] == 8192


def test_a_context_beyond_the_models_is_refused_before_a_download(sightline):
    outcome = sightline("serve", "glm-4v-9b", "--force", "--max-model-len", "8193", "--port", "0")
    assert outcome.status == 2
    assert outcome.err.endswith(
        "sightline: glm-4v-9b was made for at most 8,192 tokens; 8,193 are wanted "
        "(--max-model-len).\n"
    )


def test_what_is_advised_fits(sightline):
    report = fit(sightline, "glm-4v-9b", "--memory", "24GiB", "--device", "cuda")
    assert report["verdict"] == "does not fit"
    assert report["best"]["verdict"] == "fits"
    assert report["best"]["command"] == "sightline serve glm-4v-9b:int8 --device cuda"
    again = fit(sightline, "glm-4v-9b", "--int8", "--memory", "24GiB", "--device", "cuda")
    assert again["verdict"] == "fits"
    assert again["needed"] == report["best"]["needed"]


def test_every_number_of_the_report_is_a_plain_value(sightline):
    report = fit(
        sightline, "glm-4v-9b", "--memory", "80GB", "--device", "cuda", "--concurrency", "8"
    )
    assert report["kv"] == 8 * 8192 * report["kv_per_token"]
    assert report["kv_per_image"] == 1602 * 40960
    assert report["weights"] == sum(report["parts"].values()) == 2 * 13_906_320_896
    assert [way["verdict"] for way in report["ways"]] == ["fits"] * 5


def test_a_gigabyte_is_ten_to_the_nine_and_a_gibibyte_is_more(sightline):
    of_gb, of_gib = (fit(sightline, "--memory", size) for size in ("24GB", "24GiB"))
    assert of_gb["device"]["free"] == 24 * 10**9
    assert of_gib["device"]["free"] == 24 * 2**30
    assert "24.00 GB free of 24.00 GB" in sightline("fit", "--memory", "24GB").out


def test_the_picture_that_is_counted_is_named(sightline):
    words = ("fit", "qwen2-vl-7b", "--memory", "80GB", "--device", "cuda", "--context", "4096")
    assert "encoding 1 of 1,792 x 1,792 pixels at once" in sightline(*words).out
    assert fit(sightline, *words[1:])["image"] == {"width": 1792, "height": 1792, "tokens": 4096}


def test_pictures_of_a_given_size_are_planned_for(sightline):
    words = ("fit", "qwen2-vl-7b", "--memory", "80GB", "--device", "cuda")
    largest = "A picture is counted as the largest, 3,584 x 3,584; --image-size 1280x720 plans"
    assert largest in sightline(*words).out
    told = sightline(*words, "--image-size", "1280x720").out
    assert "1,196 tokens x 57.34 kB, 1,288 x 728 pixels" in told
    assert "counted as the largest" not in told
    small, whole = (fit(sightline, *words[1:], *more) for more in (["--image-size", "28x28"], []))
    assert small["image"] == {"width": 56, "height": 56, "tokens": 4}
    assert small["kv_per_image"] == 4 * small["kv_per_token"]
    # 400 of them are encoded together, which are as many pixels as one of GLM-4V.
    assert small["encode"] < whole["encode"] / 10
    assert small["needed"] < whole["needed"]


@pytest.mark.parametrize("size", ["", "1280", "0x720", "1280x-1", "axb", "1280x720x3"])
def test_what_is_no_size_of_a_picture_is_refused_in_a_line(sightline, size):
    outcome = sightline("fit", "glm-4v-9b", "--memory", "80GB", "--image-size", size)
    assert outcome.status == 2
    assert outcome.err == f"sightline: --image-size: {size!r} is not a size such as 1280x720.\n"


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ("20000x20000", "20000x20000; limit 40000000 pixels."),
        ("16385x100", "16385x100; limit 16384 pixels per side."),
        ("10x2010", "10x2010; limit a ratio of 200:1."),
        ("999999x1", "999999x1; limit 16384 pixels per side."),
    ],
)
def test_a_picture_that_the_server_refuses_is_not_planned_for(sightline, size, told):
    outcome = sightline("fit", "qwen2-vl-7b", "--memory", "80GB", "--image-size", size)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == f"sightline: --image-size: the server refuses such a picture: {told}\n"


def test_the_limits_of_the_settings_are_those_of_the_pictures_planned_for(sightline):
    (sightline.folder / "sightline.toml").write_text("[limits]\nmax_image_side = 1000\n")
    words = ("fit", "qwen2-vl-7b", "--memory", "80GB", "--image-size")
    assert sightline(*words, "1000x1000").status == 0
    assert "limit 1000 pixels per side" in sightline(*words, "1001x500").err


def test_no_pictures_are_planned_for_with_a_model_that_sees_none(sightline):
    outcome = sightline("fit", "glm-4-9b-chat", "--memory", "80GB", "--image-size", "640x480")
    assert outcome.status == 2
    assert outcome.err == "sightline: glm-4-9b-chat sees no pictures; leave --image-size off.\n"


@pytest.fixture
def stored_in_int4(tmp_path):
    """A folder with a blank in its name; `fit` needs no weights."""
    folder = tmp_path / "my model"
    folder.mkdir()
    config = json.loads((MODEL_DIR / "config.json").read_text())
    config["quantization_config"] = choose_quantization("int4", None).to_config()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_format_that_is_typed_overrules_the_settings_file(sightline):
    (sightline.folder / "sightline.toml").write_text('[model]\nquantization = "int4"\n')
    words = ("fit", "glm-4v-9b", "--memory", "80GB")
    assert sightline(*words).out.startswith("glm-4v-9b in int4, vision int8 on ")
    assert sightline(*words, "--int8").out.startswith("glm-4v-9b in int8, vision bfloat16 on ")
    behind = sightline("fit", "glm-4v-9b:int8", "--memory", "80GB").out
    assert behind.startswith("glm-4v-9b in int8, vision bfloat16 on ")
    assert "Run it: sightline serve glm-4v-9b:int8\n" in behind
    twice = sightline("fit", "glm-4v-9b:int8", "--int4", "--memory", "80GB")
    assert (twice.status, "asks for int8" in twice.err) == (2, True)


@pytest.mark.parametrize(
    ("environ", "memory", "command"),
    [
        # What holds for the command as well is not said twice, and what would spoil it is.
        (
            {"SIGHTLINE_QUANTIZATION": "int4", "SIGHTLINE_QUANTIZATION_VISION": "int4"},
            "22GB",
            "glm-4v-9b:int4",
        ),
        (
            {"SIGHTLINE_QUANTIZATION_VISION": "int4"},
            "17GB",
            "glm-4v-9b --quantization int4 --quantization-vision int8",
        ),
        (
            {"SIGHTLINE_QUANTIZATION": "int8"},
            "12GB",
            "qwen2-vl-2b --quantization none --quantization-vision none",
        ),
    ],
)
def test_the_command_holds_beside_the_environment(sightline, environ, memory, command):
    told = sightline("fit", "glm-4v-9b", "--memory", memory, "--device", "cpu", **environ).out
    assert f"sightline serve {command} --device cpu\n" in told


def test_a_settings_file_that_is_named_is_named_in_the_command(sightline):
    (sightline.folder / "my own.toml").write_text("[model]\nmax_model_len = 4096\n")
    told = sightline("fit", "glm-4v-9b", "--memory", "80GB", "--config", "my own.toml").out
    assert "sightline serve glm-4v-9b --max-model-len 4096 --config 'my own.toml'\n" in told


def test_the_command_has_room_for_what_the_server_keeps_room_for(sightline):
    """It cannot be told that pictures are small, or none: a shorter context refuses large ones."""
    words = ("qwen2-vl-7b", "--memory", "22GB", "--device", "cpu")
    for small in (("--image-size", "1280x720"), ("--images", "0")):
        told = sightline("fit", *words, *small)
        assert (told.status, "It fits; " in told.out, "Run it" in told.out) == (0, True, False)
        assert "But `sightline serve` also keeps room for the largest picture" in told.out
        assert "sightline serve qwen2-vl-7b --max-model-len 17664 --device cpu\n" in told.out
        report = fit(sightline, *words, *small)
        assert (report["verdict"], report["verdict_of_serve"]) == ("fits", "shorter context")
    served = fit(sightline, *words, "--context", "17664")
    assert (served["verdict"], served["verdict_of_serve"]) == ("fits", "fits")


def test_a_shorter_context_that_is_advised_still_takes_pictures_of_the_given_size(sightline):
    words = ("qwen2-vl-2b", "--memory", "8.8GB", "--device", "cpu", "--image-size", "1920x1920")
    command = fit(sightline, *words)["best"]["command"]
    assert int(command.partition("--max-model-len ")[2].split()[0]) >= 512 + 4761


def test_the_command_has_the_context_for_all_that_run_at_once(sightline):
    words = ("glm-4v-9b:int8", "--memory", "20GB", "--device", "cpu", "--concurrency", "64")
    command = fit(sightline, *words)["best"]["command"]
    assert command.startswith("sightline serve glm-4v-9b:int4 --max-model-len ")
    length = command.split()[4]
    of_int4 = ("glm-4v-9b:int4", *words[1:], "--context", length)
    assert fit(sightline, *of_int4)["verdict"] == "fits"


@pytest.mark.parametrize(
    ("words", "kv"),
    [
        (("glm-4v-9b", "--memory", "80GB", "--concurrency", "8"), 8 * 8192 * 40960),
        (("glm-4-9b-chat", "--int4", "--memory", "16GB"), 131_072 * 40960),
    ],
)
def test_what_fits_is_what_the_command_runs(sightline, words, kv):
    """By itself a server on a CPU would take less for keys and values."""
    told = sightline("fit", *words).out
    (command,) = (line for line in told.splitlines() if line.startswith("Run it: "))
    assert command.endswith(f"--kv-cache-memory {kv}")
    assert f"{kv // 40960:,} tokens" in told.split("The server takes ")[1]
    assert fit(sightline, *words)["kv_planned"] == kv
    alone = sightline("fit", "glm-4v-9b", "--memory", "80GB").out
    assert "Run it: sightline serve glm-4v-9b\n" in alone


def test_the_command_repeats_what_was_typed(sightline):
    folder = sightline.folder / "my models"
    shutil.copytree(MODEL_DIR, folder / "mine")
    words = ("--model-dir", "my models", "--device", "cpu", "--max-num-batched-tokens", "256")
    told = sightline("fit", "mine", "--memory", "4GB", *words).out
    assert (
        "Run it: sightline serve mine --model-dir 'my models' --device cpu "
        "--max-num-batched-tokens 256\n" in told
    )
    switched = fit(sightline, "glm-4v-9b", "--memory", "20GB", "--no-cuda-graphs")
    assert switched["best"]["command"].endswith(" --no-cuda-graphs")
    (sightline.folder / "sightline.toml").write_text('[model]\ndevice = "cpu"\n')
    assert "--device" not in sightline("fit", "--memory", "4GB").out


def test_fewer_keys_and_values_are_advised_where_those_wanted_do_not_fit(sightline):
    words = ("fit", "qwen2-vl-2b", "--memory", "24GB", "--context", "2048", "--kv-cache-memory")
    told = sightline(*words, "20GB").out
    assert "It does not fit: 3.02 GB are missing." in told
    command = fit(sightline, *words[1:], "20GB")["best"]["command"]
    assert f"What fits: less for keys and values, {command}" in told
    size = command.rpartition("--kv-cache-memory ")[2]
    assert fit(sightline, *words[1:], size)["verdict"] == "fits"


def test_a_folder_is_named_as_a_shell_takes_it(sightline, stored_in_int4):
    outcome = sightline("fit", str(stored_in_int4), "--memory", "8GB")
    assert outcome.status == 0
    assert f"Run it: sightline serve '{stored_in_int4}'" in outcome.out


@pytest.mark.parametrize("scheme", ["--int8", ":int8"])
def test_what_is_stored_in_int4_cannot_be_planned_in_int8(sightline, stored_in_int4, scheme):
    words = ["fit", str(stored_in_int4), scheme]
    if scheme.startswith(":"):
        words = ["fit", f"{stored_in_int4}{scheme}"]
    outcome = sightline(*words, "--memory", "8GB")
    assert outcome.status == 2
    assert "is stored in int4, vision int8 and cannot be run in another format" in outcome.err
    again = [word.replace("int8", "int4") for word in words]
    assert sightline(*again, "--memory", "8GB").status == 0


def test_this_machine_is_asked_without_a_memory(sightline):
    outcome = sightline("fit")
    assert outcome.status == 0, outcome.out
    assert "free of" in outcome.out
    assert "It fits" in outcome.out


def test_it_speaks_chinese(sightline):
    outcome = sightline("--lang", "zh", "fit", "glm-4v-9b", "--memory", "20GB", "--device", "cpu")
    assert "放不下：还差" in outcome.out
    assert "可行的办法" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("glm-4v-9b", "--int8", "--int4"), "not both"),
        (("glm-4v-9b:int4", "--int8"), "glm-4v-9b:int4 asks for int4, the option for int8"),
        (("glm-4v-9b", "--memory", "much"), "not a size"),
        (("glm-4v-9b", "--device", "cuda:77"), "There is no device cuda:77"),
        (("nothing-9b",), "There is no model folder nothing-9b"),
        (("glm-4v-9b", "--context", "0"), "--context"),
        (("glm-4v-9b", "--device", "nonsense"), "nonsense is no device; use auto, cpu, cuda"),
        (("glm-4v-9b", "--device", "cuda:x", "--memory", "9GB"), "cuda:x is no device"),
    ],
)
def test_what_cannot_be_judged_is_refused(arguments, told, sightline):
    outcome = sightline("fit", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert told in outcome.err


@pytest.fixture
def giant(sightline):
    """A folder of a model that no machine of these years holds; its weights are not there."""
    from sightline.hub.known import known_folder
    from sightline.hub.names import find_model

    config = json.loads((known_folder(find_model("glm-4v-9b")) / "config.json").read_text())
    config |= {"hidden_size": 65536, "ffn_hidden_size": 1048576, "num_layers": 1000}
    folder = sightline.folder / "giant"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "command", [("serve", "./giant", "--port", "0"), ("ask", "--model", "./giant", "Hello?")]
)
def test_what_cannot_fit_is_refused_before_it_is_loaded(command, giant, sightline):
    outcome = sightline(*command)
    assert outcome.status == 2, outcome.err
    last = outcome.err.splitlines()[-1]
    assert last.startswith("sightline: giant in bfloat16 needs ")
    assert "What fits: another model" in last or "Nothing that is known fits" in last
    assert "--force loads it all the same" in last


def test_force_overrules(giant, sightline):
    outcome = sightline("serve", "./giant", "--port", "0", "--force")
    assert outcome.status == 2
    assert "loaded all the same (--force)" in outcome.err
    assert "no model.safetensors" in outcome.err


def test_the_refusal_is_in_chinese_where_that_is_spoken(giant, sightline):
    outcome = sightline("--lang", "zh", "serve", "./giant", "--port", "0")
    assert outcome.status == 2
    assert "--force 强制加载" in outcome.err
