"""Saving a quantised model and loading it again, or quantising it while it is loaded."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sightline.core.errors import StartupError
from sightline.hub import check_folder
from sightline.models import quantize_folder as module
from sightline.models.linear import Linear
from sightline.models.loading import load_model
from sightline.models.quantization import Quantization, choose_quantization, weight_bytes
from sightline.models.quantize_folder import quantize_folder

pytestmark = pytest.mark.engine

INT4 = Quantization(language="int4", vision="int8")
LAYER = "transformer.encoder.layers.0.mlp.dense_4h_to_h.weight"
CHOICES = [Quantization(language="int8"), INT4, Quantization(vision="int8")]


def weights_of(folder: Path, quantization: Quantization | None = None) -> dict[str, Tensor]:
    """Everything that the loaded model holds, quantised matrices in their two parts."""
    loaded = load_model(folder, device="cpu", dtype="float32", quantization=quantization)
    found = {}
    for path, part in cast(nn.Module, loaded.model).named_modules():
        for name, weight in part.named_parameters(prefix=path, recurse=False):
            found[name] = weight
        if isinstance(part, Linear) and part.quantized is not None:
            found[path + ".weight"] = part.quantized.values
            found[path + ".weight_scales"] = part.quantized.scales
    return found


@pytest.fixture
def quantised(model_folder: Path, tmp_path: Path) -> Path:
    quantize_folder(model_folder, tmp_path / "small", INT4)
    return tmp_path / "small"


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_saved_model_is_bit_for_bit_the_one_made_while_loading(
    model_folder: Path, tmp_path: Path, choice: Quantization
) -> None:
    quantize_folder(model_folder, tmp_path / "small", choice)
    made, saved = weights_of(model_folder, choice), weights_of(tmp_path / "small")
    assert made.keys() == saved.keys()
    assert all(torch.equal(made[name], saved[name]) for name in made)
    assert load_model(tmp_path / "small", device="cpu").quantization == choice


def test_shards_make_no_difference(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 20_000)
    quantize_folder(model_folder, tmp_path / "small", INT4)
    assert len(list((tmp_path / "small").glob("model-*-of-*.safetensors"))) > 2
    made, saved = weights_of(model_folder, INT4), weights_of(tmp_path / "small")
    assert all(torch.equal(made[name], saved[name]) for name in made)


def test_the_folder_holds_what_was_told(model_folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    (model_folder / "tokenizer.model").write_text("x")
    (model_folder / "modeling_chatglm.py").write_text("raise SystemExit")
    total = quantize_folder(
        model_folder,
        tmp_path / "small",
        INT4,
        progress=lambda done, all_: told.append((done, all_)),
    )
    names = {path.name for path in (tmp_path / "small").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.model"}
    tensors = load_file(tmp_path / "small" / "model.safetensors")
    assert sum(tensor.nbytes for tensor in tensors.values()) == total == told[-1][0] == told[-1][1]
    assert not list(tmp_path.glob(".quantizing*"))


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(StartupError) as caught:
        load_model(folder, device="cpu", **options)
    return caught.value.message


def test_a_flipped_bit_is_refused_by_the_tensors_name(quantised: Path) -> None:
    path = quantised / "model.safetensors"
    content = bytearray(path.read_bytes())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    start = 8 + int.from_bytes(content[:8], "little")
    for name in (LAYER, LAYER + "_scales", "transformer.embedding.word_embeddings.weight"):
        damaged = bytearray(content)
        damaged[start + header[name]["data_offsets"][0] + 3] ^= 4
        path.write_bytes(damaged)
        assert f"tensor {name} is damaged" in refusal(quantised)


def test_a_file_cut_short_is_refused(quantised: Path) -> None:
    path = quantised / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "cut off" in refusal(quantised)


Edit = Callable[[dict[str, Tensor]], None]


def drop_scales(tensors: dict[str, Tensor]) -> None:
    del tensors[LAYER + "_scales"]


def float_again(tensors: dict[str, Tensor]) -> None:
    tensors[LAYER] = tensors[LAYER].float()


def wrong_groups(tensors: dict[str, Tensor]) -> None:
    tensors[LAYER + "_scales"] = tensors[LAYER + "_scales"][:, :1].contiguous()


def of_another_scheme(tensors: dict[str, Tensor]) -> None:
    tensors[LAYER] = torch.cat((tensors[LAYER], tensors[LAYER]), dim=1)


@pytest.mark.parametrize(
    "edit", [drop_scales, float_again, wrong_groups, of_another_scheme], ids=lambda e: e.__name__
)
def test_wrong_tensors_are_refused_by_name(quantised: Path, edit: Edit) -> None:
    path = quantised / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)
    assert LAYER in refusal(quantised)


def test_a_folder_without_its_entry_is_no_model(quantised: Path) -> None:
    path = quantised / "config.json"
    config = json.loads(path.read_text())
    entry = config.pop("quantization_config")
    path.write_text(json.dumps(config))
    assert "shape" in refusal(quantised) or "unexpected tensor" in refusal(quantised)
    path.write_text(json.dumps(config | {"quantization_config": entry | {"language": "int5"}}))
    assert "'language'" in refusal(quantised)


def test_what_is_quantised_is_not_quantised_again(quantised: Path, tmp_path: Path) -> None:
    assert "quantised already (int4, vision int8)" in refusal(
        quantised, quantization=choose_quantization("int8", None)
    )
    load_model(quantised, device="cpu", quantization=INT4)
    with pytest.raises(StartupError, match="quantised already"):
        quantize_folder(quantised, tmp_path / "again", INT4)


def test_a_folder_that_is_there_is_left_alone(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with pytest.raises(StartupError, match="there already"):
        quantize_folder(model_folder, tmp_path / "small", INT4)
    assert list((tmp_path / "small").iterdir()) == []


@pytest.mark.parametrize("choice", [Quantization(), Quantization(vision="int8")], ids=str)
def test_what_would_leave_every_weight_as_it_is_is_refused(
    model_folder: Path, change_config: Callable[..., None], tmp_path: Path, choice: Quantization
) -> None:
    change_config(vision_config=None)
    with pytest.raises(StartupError, match="Nothing to do: every weight is left as it is"):
        quantize_folder(model_folder, tmp_path / "small", choice)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_told_before_anything_is_written(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=200_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(StartupError, match=r"need 0\.3 GB of disk, 0\.2 GB are free"):
        quantize_folder(model_folder, tmp_path / "small", INT4)
    assert not (tmp_path / "small").exists()
    assert not list(tmp_path.glob(".quantizing*"))


def test_an_interrupted_save_leaves_nothing(model_folder: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_folder(model_folder, tmp_path / "small", INT4, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_others_can_read_the_file(quantised: Path) -> None:
    with safe_open(quantised / "model.safetensors", "pt") as file:
        assert file.get_tensor(LAYER).dtype == torch.uint8


PEAK = """
import sys
from pathlib import Path
from sightline.models.packing import pack_linears
from sightline.models.loading import load_model
from sightline.models.packed_weight import can_pack
from sightline.models.quantization import choose_quantization
from sightline.models.quantized_kernels import IntegerKernel, PackedInt4Kernel, keeps_its_promise
import torch
torch.set_num_threads(1)
folder, scheme = Path(sys.argv[1]), sys.argv[2]
can_pack(torch.bfloat16), can_pack(torch.float32)
for kernel, of in ((IntegerKernel, "int8"), (PackedInt4Kernel, "int4")):
    keeps_its_promise(kernel, of, torch.device("cpu"))
def kib(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = kib("VmRSS:")
model = load_model(folder, device="cpu", dtype="bfloat16",
                   quantization=choose_quantization(scheme, None)).model
pack_linears(model)
print((kib("VmHWM:") - before) * 1024)
"""


@pytest.fixture(scope="module")
def large_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """250 MB of bfloat16 weights; what they are does not matter here."""
    from sightline.models.outline import tensor_shapes
    from sightline.models.registry import find_family

    config = {
        "model_type": "chatglm", "multi_query_attention": True, "hidden_size": 1024,
        "num_layers": 10, "num_attention_heads": 8, "kv_channels": 128,
        "multi_query_group_num": 2, "ffn_hidden_size": 3072, "padded_vocab_size": 1024,
        "layernorm_epsilon": 1e-6, "seq_length": 512, "eos_token_id": 1,
        "torch_dtype": "bfloat16",
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("large")
    shapes = tensor_shapes(find_family(config).blueprint(config).outline)
    save_file(
        {name: torch.ones(shape, dtype=torch.bfloat16) for name, shape in shapes.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read as on Linux")
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_loading_takes_the_quantised_size_and_little_more(large_folder: Path, scheme: str) -> None:
    from sightline.models.facts import read_facts
    from sightline.models.outline import tensor_shapes

    shapes = tensor_shapes(read_facts(large_folder).outline)
    chosen = choose_quantization(scheme, None)
    quantised = sum(weight_bytes(name, shape, chosen) for name, shape in shapes.items())
    plain = sum(weight_bytes(name, shape, Quantization()) for name, shape in shapes.items())
    largest = max(2 * torch.Size(shape).numel() for shape in shapes.values())
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(large_folder), scheme],
        stdout=subprocess.PIPE, text=True, check=True, timeout=300,
    )  # fmt: skip
    peak = int(done.stdout)
    # Beside the tensor that is read stand fp32 pieces of it, a few MiB whatever its size.
    assert 0.9 * quantised < peak < quantised + 2 * largest + 24 * 2**20 < plain


def test_a_copy_of_a_pulled_model_is_not_measured_by_the_original(
    model_folder: Path, tmp_path: Path
) -> None:
    size = (model_folder / "model.safetensors").stat().st_size
    record = {
        "hub": "huggingface",
        "repository": "somebody/own-model",
        "licence": "MIT",
        "files": [{"name": "model.safetensors", "size": size}],
    }
    (model_folder / "sightline-model.json").write_text(json.dumps(record))
    (model_folder / "tokenizer.model").write_text("x")
    quantize_folder(model_folder, tmp_path / "small", INT4)
    copy = check_folder(tmp_path / "small")
    assert copy.size_bytes < size
    assert (copy.licence, copy.origin) == ("MIT", "huggingface:somebody/own-model")


def test_two_at_once_do_not_meet(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the first would give its name to what the second has half written."""
    told: list[StartupError] = []

    def start_another(done: int, total: int) -> None:
        if not told:
            with pytest.raises(StartupError, match="is being written by another process") as caught:
                quantize_folder(model_folder, tmp_path / "small", INT4)
            told.append(caught.value)

    quantize_folder(model_folder, tmp_path / "small", INT4, progress=start_another)
    assert told
    made, saved = weights_of(model_folder, INT4), weights_of(tmp_path / "small")
    assert all(torch.equal(made[name], saved[name]) for name in made)
    with pytest.raises(StartupError, match="is there already"):
        quantize_folder(model_folder, tmp_path / "small", INT4)


def test_what_a_killed_process_left_goes_and_what_a_download_has_gathered_stays(
    model_folder: Path, tmp_path: Path
) -> None:
    (model_folder / "tokenizer.model").write_text("x")
    for name in (".quantizing-small", ".partial-small"):
        (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    quantize_folder(model_folder, tmp_path / "small", INT4)
    assert check_folder(tmp_path / "small").quantization == str(INT4)
    assert not (tmp_path / "small" / "a").exists()
    assert not (tmp_path / ".quantizing-small").exists()
    assert (tmp_path / ".partial-small" / "model.safetensors").read_bytes() == b"half"
