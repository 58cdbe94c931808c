"""Will it fit: the arithmetic against devices that are only imagined, no torch."""

from dataclasses import replace

import pytest

from sightline.core.limits import MIB
from sightline.engine.fit import Fit, Wish, advise, judge
from sightline.engine.graph_memory import LIBRARY_BYTES, RECORDING_BYTES
from sightline.engine.kv_budget import GIB, cpu_kv_bytes, gpu_kv_bytes
from sightline.hub.facts import all_known
from sightline.models.device_memory import DeviceMemory
from sightline.models.facts import ModelFacts
from sightline.models.footprint import largest_size
from sightline.models.quantization import Quantization, choose_quantization

GB = 10**9
KNOWN = {known.name: known.facts for known in all_known()}
GLM = KNOWN["glm-4v-9b"]
# 6400 patches: 3 rows of the tower and 2 of its MLP live together, in bfloat16.
GLM_PICTURE_BYTES = 6400 * (3 * 1792 + 2 * 15360) * 2


def cpu(free: int, total: int = 64 * GB, *, has_bfloat16: bool = True) -> DeviceMemory:
    return DeviceMemory(
        device="cpu", name="a CPU", total=total, free=free, has_bfloat16=has_bfloat16
    )


def gpu(gib: int) -> DeviceMemory:
    return DeviceMemory(device="cuda:0", name="a GPU", total=gib * GIB, free=gib * GIB)


def quantized(language: str, vision: str | None = None, **more: int) -> Wish:
    return Wish(quantization=choose_quantization(language, vision), **more)


def weights(facts: ModelFacts, wish: Wish) -> int:
    return judge(facts, gpu(80), wish).footprint.weight_bytes


def test_glm_4v_9b_takes_its_published_bytes() -> None:
    assert weights(GLM, Wish()) == 2 * 13_906_320_896
    assert weights(GLM, quantized("int8")) / GB == pytest.approx(19.1, abs=0.1)
    assert weights(GLM, quantized("int4")) / GB < 12
    fit = judge(GLM, gpu(80), Wish())
    assert fit.footprint.kv_token_bytes == 40 * 1024
    assert fit.kv_bytes == 8192 * 40 * 1024


@pytest.mark.parametrize(
    ("device", "wish", "verdict"),
    [
        (gpu(141), Wish(), "fits"),
        (gpu(40), Wish(), "fits"),
        (gpu(24), Wish(), "does not fit"),
        (gpu(24), quantized("int4"), "fits"),
        (gpu(16), quantized("int4"), "fits"),
        (gpu(8), quantized("int4", "int4"), "does not fit"),
        (cpu(24 * GB), Wish(), "does not fit"),
        (cpu(40 * GB), Wish(), "fits"),
    ],
)
def test_glm_4v_9b_on_cards_that_people_own(device: DeviceMemory, wish: Wish, verdict: str) -> None:
    assert judge(GLM, device, wish).verdict == verdict


@pytest.mark.parametrize("device", [gpu(80), cpu(64 * GB)], ids=["gpu", "cpu"])
def test_everything_that_is_needed_is_counted(device: DeviceMemory) -> None:
    fit = judge(GLM, device, Wish(concurrency=4, context=8192, dtype="bfloat16"))
    assert fit.kv_bytes == 4 * 8192 * 40 * 1024
    both = fit.step_bytes, fit.encode_bytes
    assert min(both) > 0
    work = sum(both) if device.is_gpu else max(both)
    assert fit.needed == sum(
        (
            fit.footprint.weight_bytes,
            fit.kv_bytes,
            fit.cache_bytes,
            fit.recording_bytes,
            fit.program_bytes,
            work,
        )
    )
    more = judge(GLM, device, Wish(concurrency=4, context=8192, images=8, dtype="bfloat16"))
    assert more.encode_bytes == 8 * fit.encode_bytes


def test_a_gpu_has_room_for_as_many_pictures_as_it_encodes_together() -> None:
    qwen = KNOWN["qwen-vl-chat"]
    (alone, small), (together, large) = (
        (fit.encode_bytes, fit.picture)
        for fit in (judge(qwen, cpu(64 * GB), Wish(dtype="bfloat16")), judge(qwen, gpu(80), Wish()))
    )
    assert small == large == (448, 448)
    assert together == 6 * alone
    assert judge(qwen, gpu(80), Wish()).num_encoded == 6
    assert judge(qwen, gpu(80), Wish(images=9)).num_encoded == 9
    assert judge(GLM, gpu(80), Wish()).encode_bytes == GLM_PICTURE_BYTES


def test_recorded_steps_are_counted_on_a_gpu_alone_and_grow_with_the_sequences() -> None:
    def recorded(device: DeviceMemory, **more: int) -> int:
        return judge(GLM, device, Wish(**more)).recording_bytes

    assert recorded(cpu(64 * GB)) == 0
    assert recorded(gpu(80), cuda_graphs=False) == 0
    # One row of scores for each sequence, in the recordings' memory and where they are kept.
    assert recorded(gpu(80)) > 2 * 256 * 151552 * 2 + 13 * RECORDING_BYTES
    assert recorded(gpu(80), max_num_seqs=1) < 2 * RECORDING_BYTES + LIBRARY_BYTES


def test_a_picture_is_no_larger_than_the_context_has_room_for() -> None:
    seven = KNOWN["qwen2-vl-7b"]
    whole, short = (judge(seven, gpu(80), Wish(context=context)) for context in (None, 4096))
    assert whole.policy is not None
    assert short.policy is not None
    assert (whole.policy.most_tokens, largest_size(whole.policy)) == (16384, (3584, 3584))
    assert (short.policy.most_tokens, largest_size(short.policy)) == (4096, (1792, 1792))
    assert 4 * short.encode_bytes == whole.encode_bytes
    assert judge(GLM, gpu(80), Wish(context=700)).policy == GLM.image_policy


def test_loading_on_a_cpu_needs_one_tensor_more_than_the_weights() -> None:
    fit = judge(KNOWN["qwen2-vl-2b"], cpu(64 * GB), Wish(context=16, images=0))
    assert fit.loading_bytes - fit.footprint.weight_bytes == 151936 * 1536 * 2


def test_a_table_that_is_the_head_too_is_kept_twice_on_a_cpu() -> None:
    tied, own = KNOWN["qwen2-vl-2b"], KNOWN["qwen2-vl-7b"]
    assert judge(tied, cpu(64 * GB), Wish()).table_copy_bytes == 151936 * 1536 * 2
    assert judge(tied, gpu(40), Wish()).table_copy_bytes == 0
    assert judge(own, cpu(64 * GB), Wish()).table_copy_bytes == 0


def test_a_model_with_a_long_context_runs_with_a_shorter_one() -> None:
    million = KNOWN["glm-4-9b-chat-1m"]
    fit = judge(million, gpu(40), Wish())
    assert fit.verdict == "shorter context"
    cut = judge(million, gpu(40), Wish(context=fit.context_that_fits))
    assert cut.verdict == "fits"
    assert judge(million, gpu(40), Wish(context=fit.context_that_fits + 64)).verdict != "fits"


def test_keys_and_values_that_were_asked_for_have_to_fit_whole() -> None:
    million = KNOWN["glm-4-9b-chat-1m"]
    assert judge(million, gpu(40), Wish(kv_cache_memory=4 * GIB)).verdict == "shorter context"
    assert judge(million, gpu(40), Wish(kv_cache_memory=9000 * GIB)).verdict == "does not fit"


def test_where_they_do_not_fit_whole_fewer_are_advised() -> None:
    wish = Wish(kv_cache_memory=20 * GB, context=2048)
    judgement = advise(KNOWN["qwen2-vl-2b"], cpu(24 * GB), wish)
    assert judgement.fit.verdict == "does not fit"
    assert judgement.fit.missing == judgement.fit.fixed_bytes + 20 * GB - judgement.fit.available
    best = judgement.best
    assert best is not None
    assert (best.choice, best.fit.verdict, best.fit.context) == ("smaller cache", "fits", 2048)
    assert best.fit.kv_planned == best.fit.wish.kv_cache_memory
    assert best.fit.kv_room - MIB < best.fit.kv_planned <= best.fit.kv_room


def test_the_context_that_fits_is_within_the_keys_and_values_that_were_asked_for() -> None:
    fit = judge(KNOWN["glm-4-9b-chat-1m"], gpu(40), Wish(kv_cache_memory=4 * GIB))
    assert fit.context_that_fits == 4 * GIB // fit.footprint.kv_token_bytes


def test_a_gpu_without_bfloat16_is_told_float16_as_it_will_load() -> None:
    volta = replace(gpu(24), has_bfloat16=False)
    for wish, dtype in ((Wish(), "float16"), (Wish(dtype="bfloat16"), "bfloat16")):
        judgement = advise(KNOWN["qwen2-vl-7b"], volta, wish)
        assert {way.footprint.dtype for way in (judgement.fit, *judgement.ways)} == {dtype}
    assert judge(KNOWN["qwen2-vl-7b"], gpu(24), Wish()).footprint.dtype == "bfloat16"


def test_a_context_that_was_asked_for_is_not_cut() -> None:
    assert judge(KNOWN["glm-4-9b-chat-1m"], gpu(40), Wish(context=1_000_000)).verdict == (
        "does not fit"
    )


@pytest.mark.parametrize(
    ("name", "device", "wish", "choice"),
    [
        ("glm-4-9b-chat", gpu(24), Wish(), "shorter context"),
        ("glm-4-9b-chat", gpu(24), Wish(context=131072), "shorter context"),
        ("qwen-vl-chat", gpu(40), Wish(concurrency=16), "shorter context"),
        ("glm-4v-9b", gpu(24), Wish(), "other format"),
        ("glm-4v-9b", gpu(11), Wish(), "other model"),
    ],
)
def test_the_best_alternative_gives_up_the_least_and_fits(
    name: str, device: DeviceMemory, wish: Wish, choice: str
) -> None:
    found = advise(KNOWN[name], device, wish, KNOWN.items())
    assert found.fit.verdict != "fits"
    assert found.best is not None
    assert found.best.choice == choice
    assert found.best.fit.verdict in ("fits", "shorter context")


def test_fewer_at_once_are_advised_where_the_context_is_as_short_as_it_can_be() -> None:
    wish = Wish(context=2048, concurrency=400)
    found = advise(GLM, gpu(48), wish)
    assert found.best is not None
    assert found.best.choice == "fewer at once"
    assert found.best.fit.verdict == "fits"
    again = advise(GLM, gpu(48), Wish(context=2048, concurrency=found.best.fit.concurrency))
    assert again.fit.verdict == "fits"


def test_a_model_that_sees_is_replaced_by_one_that_sees() -> None:
    found = advise(GLM, gpu(11), Wish(), KNOWN.items())
    assert found.best is not None
    assert found.best.name in ("qwen2-vl-2b", "qwen2.5-vl-3b", "qwen-vl-chat")


def test_nothing_is_advised_where_nothing_fits() -> None:
    assert advise(GLM, gpu(1), Wish(), KNOWN.items()).best is None


def test_a_processor_without_bfloat16_takes_float32_where_there_is_plenty() -> None:
    small = KNOWN["qwen2-vl-2b"]
    assert judge(small, cpu(64 * GB, has_bfloat16=False), Wish()).footprint.dtype == "float32"
    assert judge(small, cpu(16 * GB, has_bfloat16=False), Wish()).footprint.dtype == "bfloat16"
    assert judge(small, cpu(64 * GB), Wish()).footprint.dtype == "bfloat16"


def test_float32_that_nobody_asked_for_is_given_up_where_it_does_not_fit() -> None:
    small = KNOWN["qwen2-vl-2b"]
    fit = judge(small, cpu(18 * GB, has_bfloat16=False), Wish())
    assert (fit.footprint.dtype, fit.verdict) == ("bfloat16", "fits")
    assert fit.wish.dtype == "bfloat16"  # whoever loads it must ask for it by name
    asked = judge(small, cpu(18 * GB, has_bfloat16=False), Wish(dtype="float32"))
    assert (asked.footprint.dtype, asked.verdict) == ("float32", "shorter context")


def kv(context: int, free: int | None = None) -> int:
    return cpu_kv_bytes(context_bytes=context, machine_bytes=64 * GIB, free_bytes=free)


def test_the_budget_on_a_cpu() -> None:
    assert kv(MIB) == 32 * MIB  # a small model: 32 contexts
    assert kv(100 * MIB) == GIB
    assert kv(4 * GIB) == 4 * GIB  # one context at least
    assert kv(40 * GIB) == 16 * GIB  # a quarter of the machine at most
    assert kv(4 * GIB, free=2 * GIB) == 2 * GIB * 95 // 100


def test_the_budget_on_a_gpu_leaves_what_the_share_says() -> None:
    budget = gpu_kv_bytes(
        total_bytes=100 * GIB, free_bytes=60 * GIB, utilization=0.9, step_bytes=5 * GIB
    )
    assert budget == 45 * GIB
    assert gpu_kv_bytes(total_bytes=10, free_bytes=1, utilization=0.5, step_bytes=0) == 0


def test_what_the_server_would_take_fits_beside_the_rest() -> None:
    for fit in (judge(GLM, gpu(48), Wish()), judge(GLM, cpu(40 * GB), Wish())):
        assert_planned_fits(fit)


def assert_planned_fits(fit: Fit) -> None:
    assert fit.kv_bytes <= fit.kv_planned
    assert fit.fixed_bytes + fit.kv_planned <= fit.device.free


def test_a_shorter_context_is_advised_where_the_largest_picture_is_too_large_to_encode() -> None:
    small = KNOWN["qwen2-vl-2b"]
    found = advise(small, cpu(5 * GB, total=5 * GB), quantized("int8"))
    assert (found.fit.verdict, found.fit.context_that_fits) == ("does not fit", 0)
    assert found.best is not None
    assert found.best.choice == "shorter context"
    assert found.best.fit.verdict == "fits"
    assert found.best.fit.picture < found.fit.picture


@pytest.mark.parametrize(
    ("free", "language", "vision"),
    [(6.0, "int4", "int4"), (7.0, "int4", "int8"), (7.5, "int8", "int8"), (8.0, "int8", None)],
)
def test_more_memory_never_means_a_coarser_format(
    free: float, language: str, vision: str | None
) -> None:
    """A format that has room for most of the context is better than a coarser one for all of it."""
    num_bytes = int(free * GB)
    wish = Wish(image_size=(1920, 1920))
    found = advise(KNOWN["qwen2-vl-2b"], cpu(num_bytes, total=num_bytes), wish)
    assert found.best is not None
    assert found.best.fit.footprint.quantization == Quantization(language=language, vision=vision)


def test_pictures_that_are_too_many_to_encode_together_are_encoded_one_after_another() -> None:
    found = advise(GLM, cpu(60 * GB), Wish(images=10**6))
    assert found.best is not None
    assert (found.best.choice, found.best.fit.verdict) == ("fewer pictures", "fits")


def test_format_and_number_are_given_up_together_where_either_alone_is_too_little() -> None:
    found = advise(GLM, cpu(24 * GB), Wish(concurrency=10**8))
    assert found.best is not None
    assert (found.best.choice, found.best.fit.verdict) == ("other format", "fits")
    assert found.best.fit.concurrency > 1
    one_more = replace(found.best.fit.wish, concurrency=found.best.fit.concurrency + 1)
    assert judge(GLM, cpu(24 * GB), one_more).verdict != "fits"


@pytest.mark.parametrize("free", [5 * GB, 7 * GB])
def test_a_smaller_model_may_be_quantised_before_nothing_fits(free: int) -> None:
    found = advise(GLM, cpu(free, total=free), Wish(), KNOWN.items())
    assert found.best is not None
    assert (found.best.choice, found.best.name) == ("other model", "qwen2.5-vl-3b")
    assert found.best.fit.footprint.quantization
    assert found.best.fit.verdict == "fits"
