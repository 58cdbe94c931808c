"""Hub folders as they come, and every way in which one can be broken."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sightline.core.errors import StartupError
from sightline.models import loading, weight_filling
from sightline.models.loading import LoadedModel, load_model, read_config
from sightline.models.safetensors_file import SafetensorsFile

pytestmark = pytest.mark.engine

NORM = "transformer.encoder.final_layernorm.weight"
HEAD = "transformer.output_layer.weight"
INV_FREQ = "transformer.rotary_pos_emb.inv_freq"

ChangeConfig = Callable[..., None]
ChangeWeights = Callable[[Callable[[dict[str, Tensor]], None]], None]


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(StartupError) as caught:
        load_model(folder, **options)
    assert len(caught.value.message) <= 300
    assert "\n" not in caught.value.message
    return caught.value.message


def parameters(loaded: LoadedModel) -> dict[str, Tensor]:
    assert isinstance(loaded.model, nn.Module)
    return dict(loaded.model.named_parameters())


# What loads


def test_every_parameter_holds_what_the_file_holds(model_folder: Path) -> None:
    loaded = load_model(model_folder)
    file = load_file(model_folder / "model.safetensors")
    found = parameters(loaded)
    assert found.keys() == file.keys() - {INV_FREQ}
    for name, tensor in found.items():
        assert torch.equal(tensor, file[name].float()), name
    assert loaded.num_parameters == sum(tensor.numel() for tensor in found.values())


def test_what_goes_to_a_device_is_read_into_the_same_memory_again_and_again(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fresh pages take longer than reading does; a device copies from them and they are free."""
    file = load_file(model_folder / "model.safetensors")
    largest = max(tensor.nbytes for tensor in file.values())
    taken: list[int] = []

    def noted(count: int, dtype: torch.dtype) -> Tensor:
        taken.append(count * dtype.itemsize)
        return torch.empty(count, dtype=dtype)

    monkeypatch.setattr(weight_filling, "empty_in_huge_pages", noted)
    monkeypatch.setattr(weight_filling, "READERS", 1)
    monkeypatch.setattr(loading, "find_device", lambda _: torch.device("meta"))
    monkeypatch.setattr(loading, "dtype_for_device", lambda dtype, *_: dtype)
    loaded = load_model(model_folder)
    assert {tensor.device.type for tensor in parameters(loaded).values()} == {"meta"}
    assert max(taken) == largest
    assert len(set(taken)) == len(taken) < len(file)


def test_shards_load_as_one_file_does(
    model_folder: Path, shard: Callable[[], dict[str, str]]
) -> None:
    whole = parameters(load_model(model_folder))
    shard()
    parts = parameters(load_model(model_folder))
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_one_file_wins_over_an_index(model_folder: Path, set_index: Callable[[Any], None]) -> None:
    set_index({"nothing": "missing.safetensors"})
    load_model(model_folder)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_weights_are_converted_to_the_type_asked_for(model_folder: Path, dtype: str) -> None:
    loaded = load_model(model_folder, dtype=dtype)
    assert loaded.dtype == getattr(torch, dtype)
    assert {tensor.dtype for tensor in parameters(loaded).values()} == {loaded.dtype}


@pytest.mark.parametrize(
    ("has_arithmetic", "free_memory", "expected"),
    [(True, 2**40, torch.bfloat16), (False, 2**40, torch.float32), (False, 2**16, torch.bfloat16)],
)
def test_auto_takes_the_type_of_the_config_or_what_the_processor_computes_well_in(
    model_folder: Path,
    change_config: ChangeConfig,
    monkeypatch: pytest.MonkeyPatch,
    has_arithmetic: bool,
    free_memory: int,
    expected: torch.dtype,
) -> None:
    numbers = "sightline.models.cpu_numbers"
    monkeypatch.setattr(f"{numbers}.has_bfloat16_arithmetic", lambda: has_arithmetic)
    monkeypatch.setattr(f"{numbers}.free_memory", lambda: free_memory)
    change_config(torch_dtype="bfloat16")
    assert load_model(model_folder).dtype == expected
    assert load_model(model_folder, dtype="bfloat16").dtype == torch.bfloat16


def test_auto_takes_the_type_of_the_weights_where_the_config_is_silent(
    model_folder: Path, change_config: ChangeConfig
) -> None:
    change_config(torch_dtype=None)
    assert load_model(model_folder).dtype == torch.float16


def test_a_loaded_model_is_ready_for_inference(model_folder: Path) -> None:
    loaded = load_model(model_folder)
    assert isinstance(loaded.model, nn.Module)
    assert not loaded.model.training
    assert not any(tensor.requires_grad for tensor in parameters(loaded).values())


def test_progress_counts_every_byte_once(model_folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_model(model_folder, progress=lambda done, total: seen.append((done, total)))
    file = load_file(model_folder / "model.safetensors")
    total = sum(tensor.nbytes for name, tensor in file.items() if name != INV_FREQ)
    assert {row[1] for row in seen} == {total}
    assert [row[0] for row in seen] == sorted({row[0] for row in seen})
    assert seen[-1][0] == total


def test_a_text_only_checkpoint_loads(
    model_folder: Path, change_config: ChangeConfig, change_weights: ChangeWeights
) -> None:
    def drop_vision(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if ".vision." in name]:
            del tensors[name]

    change_config(vision_config=None)
    change_weights(drop_vision)
    loaded = load_model(model_folder)
    assert loaded.description.image_policy is None
    with pytest.raises(ValueError, match="no vision tower"):
        loaded.model.encode_images(torch.zeros(1, 112, 112, 3, dtype=torch.uint8))


def test_the_description_is_made_of_the_models_own_files(model_folder: Path) -> None:
    (model_folder / "generation_config.json").write_text(
        json.dumps(
            {
                "do_sample": True,
                "temperature": 0.8,
                "top_p": 0.7,
                "top_k": 20,
                "repetition_penalty": 1.05,
                "eos_token_id": [1, 2],
            }
        )
    )
    description = load_model(model_folder).description
    assert description.prompt_format == "glm4"
    assert description.max_model_len == 256
    assert description.image_policy is not None
    assert description.image_policy.num_tokens == 18
    assert (description.default_temperature, description.default_top_p) == (0.8, 0.7)
    assert (description.default_top_k, description.default_repetition_penalty) == (20, 1.05)
    assert description.eos_token_ids == (1, 2)


def test_a_model_that_does_not_sample_is_greedy_by_default(model_folder: Path) -> None:
    (model_folder / "generation_config.json").write_text('{"do_sample": false, "top_p": null}')
    description = load_model(model_folder).description
    assert (description.default_temperature, description.default_top_p) == (0.0, 1.0)
    assert (description.default_top_k, description.default_repetition_penalty) == (0, 1.0)
    assert description.eos_token_ids == (0, 186, 188)


def test_a_download_cache_full_of_links_loads(model_folder: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(model_folder.iterdir())):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    load_model(snapshot)


def test_loading_does_not_import_the_compiler(golden: Path) -> None:
    """It would double the time until an engine is ready."""
    code = (
        "import sys, pathlib; from sightline.models.loading import load_model; "
        f"load_model(pathlib.Path({str(golden / 'glm4v-a')!r})); "
        "sys.exit(not sys.modules.keys().isdisjoint({'torch._dynamo', 'sympy'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Folders


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none").endswith("none does not exist.")


def test_a_file_is_no_folder(model_folder: Path) -> None:
    assert refusal(model_folder / "config.json").endswith("is a file, not a folder.")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith("config.json is missing in ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "config.json is empty, not JSON."),
        (b"{", "config.json is broken, not JSON."),
        (b"\xff\xfe\x00", "config.json is broken, not JSON."),
        (b"[" * 100_000, "config.json is broken, not JSON."),
        (b'{"a": ' + b"9" * 5000 + b"}", "config.json is broken, not JSON."),
        (b"[1]", "config.json holds list, not a JSON object."),
        (b"<html>404</html>", "config.json is a web page (a failed download?), not JSON."),
    ],
)
def test_a_broken_config_is_refused(model_folder: Path, content: bytes, message: str) -> None:
    (model_folder / "config.json").write_bytes(content)
    with pytest.raises(StartupError) as caught:
        read_config(model_folder)
    assert caught.value.message == message


def test_a_config_that_is_a_directory_is_refused(model_folder: Path) -> None:
    (model_folder / "config.json").unlink()
    (model_folder / "config.json").mkdir()
    assert refusal(model_folder) == "config.json is not a regular file."


def test_a_pipe_is_not_read(model_folder: Path) -> None:
    (model_folder / "config.json").unlink()
    os.mkfifo(model_folder / "config.json")
    assert refusal(model_folder) == "config.json is not a regular file."


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_link_out_of_the_folder_is_refused(model_folder: Path, name: str) -> None:
    (model_folder / name).rename(model_folder.parent / name)
    (model_folder / name).symlink_to(model_folder.parent / name)
    assert refusal(model_folder) == f"{name} is a link that leads out of the model folder; refused."


def test_a_link_to_itself_is_refused(model_folder: Path) -> None:
    (model_folder / "config.json").unlink()
    (model_folder / "config.json").symlink_to("config.json")
    assert "config.json is missing" in refusal(model_folder)


def test_an_unreadable_generation_config_is_refused(model_folder: Path) -> None:
    (model_folder / "generation_config.json").write_text('{"temperature": "hot"}')
    assert refusal(model_folder) == (
        "generation_config.json: 'temperature' is 'hot'; supported: a number from 0 to 2."
    )


# Weight files


def test_a_folder_without_weights_is_refused(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    assert refusal(model_folder) == (
        "The model folder has no model.safetensors and no model.safetensors.index.json."
    )


@pytest.mark.parametrize("name", ["model.pt", "weights.ckpt"])
def test_other_pickles_are_never_loaded(model_folder: Path, name: str) -> None:
    (model_folder / "model.safetensors").rename(model_folder / name)
    assert "are never loaded" in refusal(model_folder)


def pickled(folder: Path, **options: Any) -> dict[str, Tensor]:
    """Turn the folder's weights into two shards as torch.save writes them."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for part in range(2):
        name = f"pytorch_model-{part + 1:05}-of-00002.bin"
        rows = {key: tensors[key] for key in sorted(tensors)[part::2]}
        torch.save(rows, folder / name, **options)
        weight_map |= dict.fromkeys(rows, name)
    index = json.dumps({"weight_map": weight_map})
    (folder / "pytorch_model.bin.index.json").write_text(index)
    return tensors


def test_pickled_shards_load_as_safetensors_do(model_folder: Path) -> None:
    whole = parameters(load_model(model_folder))
    pickled(model_folder)
    progress: list[tuple[int, int]] = []
    loaded = load_model(model_folder, progress=lambda *step: progress.append(step))
    assert all(torch.equal(parameters(loaded)[name], whole[name]) for name in whole)
    assert progress[-1][0] == progress[-1][1]


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harm",)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (model_folder / "model.safetensors").unlink()
    torch.save({HEAD: Harmful()}, model_folder / "pytorch_model.bin")
    assert "could run code" in refusal(model_folder)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>", "web page"),
        (b"PK\x03\x04 and no more", "cut off or broken"),
    ],
)
def test_a_bin_file_that_is_none_is_named(model_folder: Path, content: bytes, message: str) -> None:
    (model_folder / "model.safetensors").unlink()
    (model_folder / "pytorch_model.bin").write_bytes(content)
    assert message in refusal(model_folder)


def test_pickles_of_the_old_kind_and_of_other_things_are_refused(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    file = model_folder / "pytorch_model.bin"
    torch.save({HEAD: torch.ones(2)}, file, _use_new_zipfile_serialization=False)
    assert "save it again" in refusal(model_folder)
    torch.save([torch.ones(2)], file)
    assert "holds list, not named tensors" in refusal(model_folder)
    torch.save({HEAD: 3}, file)
    assert "is not a named tensor" in refusal(model_folder)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({HEAD: "../model.safetensors"}, "'../model.safetensors' is not the name of a file"),
        ({HEAD: "/etc/x.safetensors"}, "'/etc/x.safetensors' is not the name of a file"),
        ({HEAD: "sub/x.safetensors"}, "'sub/x.safetensors' is not the name of a file"),
        ({HEAD: "..\\x.safetensors"}, "is not the name of a file"),
        ({HEAD: "x\0.safetensors"}, "is not the name of a file"),
        ({HEAD: "pytorch_model.bin"}, "names other files than *.safetensors"),
        ({HEAD: 3}, "names other files than *.safetensors"),
        ({}, "'weight_map' is not an object"),
        ([HEAD], "'weight_map' is not an object"),
        (None, "'weight_map' is not an object"),
        ({HEAD: "model-00001-of-00002.safetensors"}, "model-00001-of-00002.safetensors is missing"),
    ],
)
def test_an_index_may_only_name_weight_files_of_the_folder(
    model_folder: Path, set_index: Callable[[Any], None], weight_map: Any, message: str
) -> None:
    (model_folder / "model.safetensors").rename(model_folder.parent / "model.safetensors")
    set_index(weight_map)
    assert message in refusal(model_folder)


def test_a_tensor_in_two_shards_is_refused(
    model_folder: Path, shard: Callable[[], dict[str, str]]
) -> None:
    weight_map = shard()
    other = next(name for name in sorted(set(weight_map.values())) if name != weight_map[HEAD])
    path = model_folder / other
    save_file(load_file(path) | {HEAD: torch.zeros(200, 64)}, path)
    assert f"tensor {HEAD} is also in " in refusal(model_folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "model.safetensors is empty, not a safetensors file."),
        (b"\x00\x00", "model.safetensors is cut off or broken"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git-lfs pointer"),
        (b"<!DOCTYPE html><html>Not found", "a web page"),
        (b"\x80\x02}q\x00", "a pickle or zip archive"),
        (struct.pack("<Q", 1 << 63) + b"{}", "header of 9223372036854775808 bytes in a file of 10"),
        (struct.pack("<Q", 3) + b"{}", "header of 3 bytes in a file of 10"),
        (struct.pack("<Q", 0), "header of 0 bytes"),
        (struct.pack("<Q", 2) + b"{,", "its header is not JSON"),
        (struct.pack("<Q", 2) + b"[]", "its header is not a JSON object"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "its header is not JSON"),
    ],
)
def test_a_file_that_is_no_safetensors_is_refused(
    model_folder: Path, content: bytes, message: str
) -> None:
    (model_folder / "model.safetensors").write_bytes(content)
    found = refusal(model_folder)
    assert found.startswith("model.safetensors")
    assert message in found


def header_of(**rows: Any) -> bytes:
    header = json.dumps(rows).encode()
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (3, "the header's row for 'x' is not an object"),
        ({"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}, "'x' has dtype F8_E4M3"),
        ({"dtype": None, "shape": [1], "data_offsets": [0, 8]}, "'x' has dtype None"),
        ({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}, "no valid shape"),
        ({"dtype": "F32", "shape": [1.0], "data_offsets": [0, 8]}, "no valid shape"),
        ({"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}, "no valid shape"),
        ({"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 8]}, "no valid shape"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0]}, "no valid data offsets"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}, "its offsets give -8"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, "needs 12 bytes"),
        ({"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}, "is cut off"),
        ({"dtype": "F32", "shape": [2**47] * 3, "data_offsets": [0, 8]}, "needs 11150372599265311"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}, "begins at byte"),
    ],
)
def test_what_a_header_claims_is_checked(model_folder: Path, row: Any, message: str) -> None:
    (model_folder / "model.safetensors").write_bytes(header_of(x=row) + b"\0" * 8)
    assert message in refusal(model_folder)


def test_overlapping_tensors_are_refused(model_folder: Path) -> None:
    row = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    (model_folder / "model.safetensors").write_bytes(header_of(x=row, y=row) + b"\0" * 8)
    assert "'y' begins at byte" in refusal(model_folder)


@pytest.mark.parametrize("removed", [1, 1000, 400_000])
def test_a_cut_file_is_refused(model_folder: Path, removed: int) -> None:
    path = model_folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-removed])
    assert refusal(model_folder) == (
        f"model.safetensors is cut off: expected {len(content)} bytes, "
        f"found {len(content) - removed}."
    )


def test_one_byte_too_many_is_refused(model_folder: Path) -> None:
    with (model_folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert "has bytes after its last tensor" in refusal(model_folder)


# Tensors


def test_a_missing_tensor_is_named(model_folder: Path, change_weights: ChangeWeights) -> None:
    change_weights(lambda tensors: tensors.__delitem__(HEAD))
    assert refusal(model_folder) == (
        f"The weight files lack tensor {HEAD}, which config.json needs."
    )


def test_missing_tensors_are_counted(model_folder: Path, change_config: ChangeConfig) -> None:
    change_config(num_layers=5, num_hidden_layers=5)
    message = refusal(model_folder)
    assert "transformer.encoder.layers.3.input_layernorm.weight" in message
    assert "and 12 more" in message


def test_an_extra_tensor_is_named(model_folder: Path, change_weights: ChangeWeights) -> None:
    change_weights(lambda tensors: tensors.update({"transformer.extra": torch.zeros(1)}))
    assert refusal(model_folder) == (
        "model.safetensors: unexpected tensor transformer.extra; "
        "a model of this config.json has none of that name."
    )


def test_a_wrong_shape_is_named(model_folder: Path, change_weights: ChangeWeights) -> None:
    change_weights(lambda tensors: tensors.update({NORM: torch.zeros(63)}))
    assert refusal(model_folder) == (
        f"model.safetensors: tensor {NORM} has shape [63], expected [64] by config.json."
    )


def test_a_config_of_another_size_is_a_wrong_shape(
    model_folder: Path, change_config: ChangeConfig
) -> None:
    change_config(hidden_size=65536, ffn_hidden_size=1_000_000)
    assert "expected [" in refusal(model_folder)


def test_integer_weights_are_refused(model_folder: Path, change_weights: ChangeWeights) -> None:
    change_weights(lambda tensors: tensors.update({NORM: torch.zeros(64, dtype=torch.int32)}))
    assert f"tensor {NORM} is int32" in refusal(model_folder)


def test_a_long_tensor_name_does_not_flood_the_message(
    model_folder: Path, change_weights: ChangeWeights
) -> None:
    change_weights(lambda tensors: tensors.update({"evil\n" * 10_000: torch.zeros(1)}))
    assert "unexpected tensor evil?evil?" in refusal(model_folder)


# Options and memory


def test_an_unknown_type_is_refused(model_folder: Path) -> None:
    assert refusal(model_folder, dtype="int4") == (
        "dtype 'int4' is not supported; use auto, bfloat16, float16, float32."
    )


@pytest.mark.parametrize("named", ["float8_e4m3fn", ["bfloat16"], 16])
def test_an_unknown_type_in_the_config_is_refused(
    model_folder: Path, change_config: ChangeConfig, named: Any
) -> None:
    change_config(torch_dtype=named)
    assert f"'torch_dtype' is {named!r}" in refusal(model_folder)


@pytest.mark.parametrize("device", ["gpu", "meta", ""])
def test_an_unusable_device_is_refused(model_folder: Path, device: str) -> None:
    assert "is not usable here; use auto, cpu or cuda" in refusal(model_folder, device=device)


def test_no_memory_left_is_one_clear_line(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator")

    monkeypatch.setattr(Tensor, "to", fail)
    assert refusal(model_folder).startswith("Not enough memory on cpu for 0 MiB of weights")


def test_a_file_that_shrinks_while_it_is_read_is_refused(model_folder: Path) -> None:
    path = model_folder / "model.safetensors"

    def cut(done: int, total: int) -> None:
        os.truncate(path, 5000)

    assert "the file changed while it was read" in refusal(model_folder, progress=cut)


def test_a_refused_folder_costs_no_memory_for_weights(
    model_folder: Path, change_config: ChangeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(SafetensorsFile, "read_into", fail)
    change_config(num_layers=2, num_hidden_layers=2)
    assert "unexpected tensor transformer.encoder.layers.2." in refusal(model_folder)
