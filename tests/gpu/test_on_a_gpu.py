"""What can only be seen on a GPU: the same answers as on the CPU, by every way of computing them.

`pytest -m gpu` runs these and the kernels' own tests; without a GPU they are skipped.
"""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_bench import Bench, ask, ask_about, bench
from gpu_kernels import attention_backend
from safetensors.torch import load_file
from torch import Tensor

from sightline.core.limits import MIB
from sightline.engine.contract import Step
from sightline.engine.loop import EngineLoop
from sightline.engine.plan import Plan
from sightline.engine.runner import ModelRunner
from sightline.models.glm_4v_9b import Glm4v
from sightline.models.gpu import trials
from sightline.models.gpu.picture_attention import TowerShape, choose_picture_attention
from sightline.models.gpu.quantized_choice import fastest_first
from sightline.models.loading import LoadedModel, load_model
from sightline.models.positions import compressed_positions
from sightline.models.quantization import Scheme
from sightline.models.quantized import quantize

# Kernels are compiled when they are first met, which takes a second or two for each.
pytestmark = [pytest.mark.gpu, pytest.mark.engine, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "golden" / "glm4v-a"
BOI = 190
# Relative to the largest number that is expected.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.02}


def golden_logits(dtype: str, backend: str | None) -> tuple[Tensor, Tensor]:
    """Return what the golden prompt gives on the GPU, and what it must."""
    model = load_model(GOLDEN, dtype=dtype, device="cuda").model
    assert isinstance(model, Glm4v)
    inputs, expected = (
        load_file(GOLDEN / f"{name}.safetensors") for name in ("inputs", "expected")
    )
    features = model.encode_pixel_values(inputs["pixel_values"].cuda())[0]
    ids = inputs["input_ids"][0]
    begin = ids.tolist().index(BOI)
    embeds = model.embed(ids.cuda())
    embeds = torch.cat((embeds[:begin], features, embeds[begin + 3 :]))
    spans = [(begin, len(features))]
    positions = compressed_positions(len(embeds), spans).cuda()
    if backend is None:
        hidden = model.forward(embeds, positions)
    else:
        model.attention = attention_backend(backend)
        cache = model.allocate_cache(len(embeds))
        cut = len(embeds) - 4
        parts = [model.forward(embeds[:cut], positions[:cut], cache)]
        for row in range(cut, len(embeds)):
            parts.append(model.forward(embeds[row : row + 1], positions[row : row + 1], cache))
        hidden = torch.cat(parts)
    return model.logits(hidden).float().cpu(), expected["logits"].reshape(len(embeds), -1)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("backend", [None, "sdpa", "triton", "varlen"])
def test_the_golden_prompt_gives_its_golden_scores(dtype: str, backend: str | None) -> None:
    if backend == "varlen" and dtype == "float32":
        pytest.skip("FlashAttention has no float32")
    found, expected = golden_logits(dtype, backend)
    worst = (found - expected).abs().max() / expected.abs().max()
    assert worst <= TOLERANCES[dtype]


@pytest.fixture
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(tiny_folder, device="cuda")


def small(loaded: LoadedModel, **options: object) -> Bench:
    """An engine that does not take all of the card's memory."""
    return bench(loaded, kv_cache_memory=64 * MIB, **options)


def answers(desk: Bench) -> dict[str, list[int]]:
    messages = [
        (ask("greedy", 1, 2, 3, max_tokens=60), []),
        (ask("long", *range(100), max_tokens=40), []),
        (ask("drawn", 4, 5, max_tokens=40, temperature=1.0, seed=7), []),
        (ask("cut", 6, 7, 8, max_tokens=40, temperature=0.8, top_p=0.8, seed=3), []),
        ask_about("picture", 3),
        ask_about("again", 3),
    ]
    with desk:
        for message, pixels in messages:
            desk.loop.submit(message, pixels)
        names = [message.request_id for message, _ in messages]
        return dict(zip(names, desk.wait(*names), strict=True))


def test_an_engine_on_the_gpu_says_what_one_on_the_cpu_says(
    loaded: LoadedModel, tiny_folder: Path
) -> None:
    """In fp32, where two ways of adding up hardly ever choose another token."""
    expected = answers(bench(load_model(tiny_folder, device="cpu")))
    assert answers(small(loaded)) == expected


@torch.inference_mode()
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_quantised_weights_give_what_they_stand_for(scheme: Scheme) -> None:
    """By every kernel that was found to work, one row and many, in the shapes of a large layer."""
    weight = quantize(torch.randn(4096, 1024, device="cuda"), scheme)
    kernels = fastest_first(scheme, weight.values.device)
    assert "StoredKernel" in [kind.__name__ for kind in kernels]
    for kind in kernels:
        made = kind(weight)
        for num_rows in (1, 16, 64, 65, 500):
            rows = torch.randn(num_rows, 1024, device="cuda").bfloat16()
            expected = rows.float() @ weight.dequantized(torch.float32).T
            error = (made(rows, None).float() - expected).norm() / expected.norm()
            assert error < 0.02, (kind, num_rows)


@pytest.mark.parametrize("backend", ["triton", "sdpa"])
def test_replayed_steps_say_what_computed_ones_say(tiny_folder: Path, backend: str) -> None:
    """In fp32: a replayed step has more rows than a computed one, and bits depend on that."""
    found = []
    for cuda_graphs in (False, True):
        loaded = load_model(tiny_folder, dtype="float32", device="cuda")
        desk = small(loaded, attention_backend=backend, cuda_graphs=cuda_graphs)
        assert (graphs_of(desk.loop) is not None) == cuda_graphs
        found.append(answers(desk))
    assert found[0] == found[1]


def test_an_engine_without_kernels_of_ours_says_what_others_say(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for off in ({"own", "graphs"}, {"own"}, set[str]()):
        monkeypatch.setattr(trials._trials, "off", off)
        loaded = load_model(tiny_folder, dtype="float32", device="cuda")
        found.append(answers(small(loaded)))
        assert (loaded.model.attention.name == "triton") == (not off)  # type: ignore[attr-defined]
    assert found[0] == found[1] == found[2]


def test_a_device_that_a_kernel_takes_away_is_found_to_be_lost() -> None:
    """In a process of its own, which can compute nothing more on its GPU."""
    script = (
        "import torch\n"
        "from sightline.models.gpu.trials import KernelsLost, trial\n"
        "gpu = torch.device('cuda', 0)\n"
        "with trial('tower', gpu):\n"
        "    torch.ones(4, device=gpu)\n"
        "try:\n"
        "    with trial('norm', gpu):\n"
        "        torch.zeros(4, device=gpu)[torch.tensor([10**9], device=gpu)]\n"
        "except KernelsLost as lost:\n"
        "    print('lost:', lost.name, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "lost: norm" in done.stdout, done.stderr


def test_steps_queued_behind_others_say_what_steps_one_by_one_say(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, queued = [], []
    begin_behind = ModelRunner.begin_behind
    for is_behind in (False, True):

        def noted(runner: ModelRunner, plan: Plan, step: Step, tries: bool = is_behind) -> Any:
            step_behind = begin_behind(runner, plan, step) if tries else None
            queued.append(step_behind is not None)
            return step_behind

        monkeypatch.setattr(ModelRunner, "begin_behind", noted)
        found.append(answers(small(load_model(tiny_folder, dtype="float32", device="cuda"))))
    assert found[0] == found[1]
    assert sum(queued) > 20


def graphs_of(loop: EngineLoop) -> object:
    return loop._runner._graphs  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
def test_a_step_waits_for_the_device_once(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anything that waits by itself raises, the one wait at the end of a step excepted."""
    desk = small(loaded)
    desk.loop.submit(ask("warm", 1, 2, 3, max_tokens=20))
    with desk:
        desk.wait("warm")
        torch.cuda.set_sync_debug_mode("error")
        try:
            desk.loop.submit(ask("a", 1, 2, 3, max_tokens=20))
            desk.loop.submit(ask("b", 4, 5, max_tokens=20, temperature=0.8, top_p=0.8, seed=1))
            desk.wait("a", "b")
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert desk.reasons["a"] == desk.reasons["b"] == "length"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [TowerShape(16, 112, 6401), TowerShape(16, 104, 1024)])
def test_a_tower_never_writes_its_scores_out(shape: TowerShape, dtype: torch.dtype) -> None:
    chosen = choose_picture_attention(shape, dtype, torch.device("cuda:0"))
    rows = torch.randn(
        1, shape.num_rows, 3, shape.num_heads, shape.head_dim, dtype=dtype, device="cuda"
    )
    query, key, value = rows.transpose(1, 3).unbind(2)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with chosen.allowed():
        torch.nn.functional.scaled_dot_product_attention(query, key, value)
    scores = shape.num_heads * shape.num_rows**2 * dtype.itemsize
    assert torch.cuda.max_memory_allocated() - before < scores / 2


def test_float16_survives_what_bfloat16_holds(tiny_folder: Path) -> None:
    loaded = load_model(tiny_folder, dtype="float16", device="cuda")
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():  # type: ignore[attr-defined]
            if name.endswith("dense_4h_to_h.weight"):
                parameter.mul_(3000.0)
    desk = small(loaded)
    with desk:
        desk.loop.submit(ask("a", 1, 2, 3, max_tokens=5))
        desk.wait("a")
    assert desk.reasons["a"] == "length"


def test_our_kernels_are_what_runs_here(
    tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("triton")
    with caplog.at_level(logging.INFO):
        small(load_model(tiny_folder, dtype="bfloat16", device="cuda"))
    assert "attention by triton" in caplog.text
    assert "decode steps recorded" in caplog.text


def test_the_benchmark_measures_everything(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "benchmarks/gpu.py", "--preset", "tiny", "--quick"]
    subprocess.run(
        [*command, "--device", "cuda", "--json", str(report)], check=True, cwd=ROOT, timeout=500
    )
    result = json.loads(report.read_text())
    assert result["attention"] in ("triton", "varlen", "sdpa")
    assert result["memory_gb"]["weights"] > 0
