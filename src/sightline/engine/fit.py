"""Will a model fit a device? Told from its config.json and what the device has free. No torch.

Weights, keys and values are counted exactly, by the very rules that loading follows; what a step
needs besides is an estimate.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from sightline.core.image_policy import ImagePolicy
from sightline.core.limits import MIB
from sightline.engine.graph_memory import recording_bytes, sizes_up_to
from sightline.engine.kv_budget import (
    CPU_TOKENS,
    GPU_TOKENS,
    cpu_kv_bytes,
    gpu_kv_bytes,
    left_of,
)
from sightline.models.device_memory import DeviceMemory
from sightline.models.facts import ITEM_BYTES, Dtype, ModelFacts
from sightline.models.footprint import (
    Footprint,
    largest_size,
    pictures_at_once,
    within_context,
)
from sightline.models.number_formats import is_better_as_float32
from sightline.models.outline import weights
from sightline.models.quantization import Quantization, choose_quantization

Verdict = Literal["fits", "shorter context", "does not fit"]
Choice = Literal[
    "smaller cache",
    "shorter context",
    "fewer at once",
    "fewer pictures",
    "other format",
    "other model",
]

# Measured: the engine's process with torch, and the front with its decode workers, before any
# weight. On a GPU torch's context and libraries are assumed to take as much on the device.
CPU_PROGRAM, GPU_PROGRAM = 450 * MIB, 700 * MIB
# Room for a question and its answer, besides a picture; of those of any size one of a megapixel.
LEAST_WORDS, LEAST_PICTURE = 512, 1280
# In which a model is looked at when it does not fit as asked, best first: (language, vision).
FORMATS = (("none", "none"), ("int8", "none"), ("int8", "int8"), ("int4", "int8"), ("int4", "int4"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What shall run. None: as `serve` does it by itself.

    `concurrency` full contexts are wanted at the same time, and `images` pictures encoded together,
    of `image_size` (width, height) before they are resized.
    """

    dtype: Dtype | None = None
    quantization: Quantization = field(default_factory=Quantization)
    context: int | None = None
    concurrency: int | None = None
    images: int = 1
    image_size: tuple[int, int] | None = None
    kv_cache_memory: int | None = None
    step_tokens: int | None = None
    embedding_cache_bytes: int = 128 * MIB
    gpu_memory_utilization: float = 0.9
    max_num_seqs: int = 256
    cuda_graphs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One way to run a model on a device, in bytes.

    `policy` is that of the pictures that `context` has room for; the one that is counted has the
    size `picture` (width, height) after it is resized, and takes `picture_tokens`; `num_encoded`
    of them are encoded together. `kv_bytes` is what `context` x `concurrency` need; `kv_planned` is
    what the server would take.
    `context_that_fits` is the longest for that concurrency, 0 if not even the shortest fits.
    """

    footprint: Footprint
    device: DeviceMemory
    wish: Wish
    context: int
    concurrency: int
    policy: ImagePolicy | None
    picture: tuple[int, int]
    picture_tokens: int
    num_encoded: int
    step_tokens: int
    step_bytes: int
    encode_bytes: int
    cache_bytes: int
    recording_bytes: int
    program_bytes: int
    available: int
    least_context: int

    @property
    def kv_bytes(self) -> int:
        return self.context * self.concurrency * self.footprint.kv_token_bytes

    @property
    def fixed_bytes(self) -> int:
        """Everything but keys and values."""
        rest = self.work_bytes + self.cache_bytes + self.recording_bytes + self.program_bytes
        return self.footprint.weight_bytes + self.table_copy_bytes + rest

    @property
    def work_bytes(self) -> int:
        """What computing takes. On a GPU pictures have a stream and memory of their own."""
        if self.device.is_gpu:
            return self.step_bytes + self.encode_bytes
        return max(self.step_bytes, self.encode_bytes)

    @property
    def table_copy_bytes(self) -> int:
        """A CPU keeps a table of embeddings that is the output head as well in two layouts."""
        if self.device.is_gpu or any(part.part == "head" for part in self.footprint.parts):
            return 0
        table = next(part for part in self.footprint.parts if part.part == "embeddings")
        footprint = self.footprint
        kept = footprint.facts.dtype if footprint.keeps_halves else footprint.dtype
        return table.num_parameters * ITEM_BYTES[kept]

    @property
    def loading_bytes(self) -> int:
        """The most that loading takes: what is loaded, and one tensor on its way."""
        if self.device.is_gpu:
            return self.footprint.weight_bytes
        on_its_way = max(self.footprint.largest_tensor_bytes, self.footprint.packing_bytes)
        return self.footprint.weight_bytes + on_its_way

    @property
    def needed(self) -> int:
        return max(self.fixed_bytes + self.kv_bytes, self.program_bytes + self.loading_bytes)

    @property
    def missing(self) -> int:
        """What there is too little of, where it does not fit."""
        asked = self.fixed_bytes + (self.wish.kv_cache_memory or 0)
        return max(self.needed, asked) - self.available

    @property
    def kv_room(self) -> int:
        """What keys and values could have at most."""
        if self.program_bytes + self.loading_bytes > self.available:
            return 0
        return max(0, self.available - self.fixed_bytes)

    @property
    def kv_planned(self) -> int:
        """What the server takes for keys and values, where `kv_cache_memory` says nothing else."""
        if self.wish.kv_cache_memory is not None:
            return self.wish.kv_cache_memory
        token = self.footprint.kv_token_bytes
        if self.device.is_gpu:
            return gpu_kv_bytes(
                total_bytes=self.device.total,
                free_bytes=self.device.free - self.fixed_bytes,
                utilization=self.wish.gpu_memory_utilization,
                step_bytes=0,
            )
        return cpu_kv_bytes(
            context_bytes=self.context * token,
            machine_bytes=self.device.total,
            free_bytes=max(0, self.device.free - self.fixed_bytes),
        )

    @property
    def kv_told(self) -> int | None:
        """What the server must be told to take, None where it takes enough by itself."""
        if self.wish.kv_cache_memory is not None or self.verdict != "fits":
            return self.wish.kv_cache_memory
        return self.kv_bytes if self.kv_planned < self.kv_bytes else None

    @property
    def context_that_fits(self) -> int:
        token = self.footprint.kv_token_bytes * self.concurrency
        room = min(self.kv_room, self.wish.kv_cache_memory or self.kv_room)
        longest = min(room // token, self.footprint.facts.blueprint.max_positions)
        return longest if longest >= self.least_context else 0

    @property
    def verdict(self) -> Verdict:
        if (self.wish.kv_cache_memory or 0) > self.kv_room:
            return "does not fit"
        if self.needed <= self.available:
            return "fits"
        if self.wish.context is None and self.context_that_fits:
            return "shorter context"
        return "does not fit"


def judge(facts: ModelFacts, device: DeviceMemory, wish: Wish) -> Fit:
    """Work out what `wish` needs of the model and whether the device has it.

    float32 that nobody asked for, because it is faster on a CPU, is given up if it does not fit:
    then the result's wish names the checkpoint's own format.
    """
    fit = _judge(facts, device, wish)
    own = _own_dtype(facts, device)
    if fit.verdict == "fits" or wish.dtype is not None or fit.footprint.dtype == own:
        return fit
    return _judge(facts, device, replace(wish, dtype=own))


def judge_served(facts: ModelFacts, device: DeviceMemory, wish: Wish) -> Fit:
    """The same as the server judges it, which keeps room for the largest picture at least."""
    fit = judge(facts, device, wish)
    if wish.image_size is None and wish.images:
        return fit
    served = judge(facts, device, replace(wish, images=1, image_size=None))
    order = get_args(Verdict)
    worse = max(fit, served, key=lambda one: (order.index(one.verdict), one.fixed_bytes))
    return replace(worse, least_context=max(fit.least_context, served.least_context))


def _judge(facts: ModelFacts, device: DeviceMemory, wish: Wish) -> Fit:
    wanted = wish.quantization.of_model(sees=facts.image_policy is not None)
    quantization = facts.stored if facts.stored is not None else wanted
    footprint = Footprint(
        facts=facts,
        dtype=wish.dtype or _auto_dtype(facts, quantization, device),
        quantization=quantization,
        keeps_halves=device.keeps_halves,
        keeps_table=not device.is_gpu,
    )
    longest = facts.blueprint.max_positions
    context = min(wish.context or longest, longest)
    policy = within_context(facts.image_policy, context)
    size, num_tokens = _picture(policy, wish.image_size)
    step_tokens = wish.step_tokens or (GPU_TOKENS if device.is_gpu else CPU_TOKENS)
    concurrency = wish.concurrency or 1
    # Pictures larger than a small context are refused, not waited for; those asked for are not.
    is_of_any_size = policy is not None and policy.tokens_per_image is None
    is_bounded = is_of_any_size and wish.image_size is None
    picture = min(num_tokens, LEAST_PICTURE) if is_bounded else num_tokens
    least = min(context, LEAST_WORDS + min(picture, longest // 2))
    kept = round((1 - wish.gpu_memory_utilization) * device.total)
    num_encoded = _encoded_together(device, wish, size)
    return Fit(
        footprint=footprint,
        device=device,
        wish=wish,
        context=context,
        concurrency=concurrency,
        policy=policy,
        picture=size,
        picture_tokens=num_tokens,
        num_encoded=num_encoded,
        step_tokens=step_tokens,
        step_bytes=footprint.step_bytes(step_tokens, concurrency),
        encode_bytes=footprint.encode_bytes(num_encoded, *size),
        cache_bytes=0
        if policy is None
        else max(wish.embedding_cache_bytes, num_tokens * footprint.embedding_row_bytes),
        recording_bytes=_recording_bytes(footprint, wish) if device.is_gpu else 0,
        program_bytes=GPU_PROGRAM if device.is_gpu else CPU_PROGRAM,
        available=max(0, device.free - kept) if device.is_gpu else left_of(device.free),
        least_context=least,
    )


def _picture(
    policy: ImagePolicy | None, size: tuple[int, int] | None
) -> tuple[tuple[int, int], int]:
    """Return (width, height) after resizing and the tokens of a picture, the largest by default."""
    if policy is None:
        return (0, 0), 0
    resized = largest_size(policy) if size is None else policy.target_size(*size)
    return resized, (policy.count_tokens(*resized) if size else None) or policy.most_tokens


def _encoded_together(device: DeviceMemory, wish: Wish, size: tuple[int, int]) -> int:
    """Return how many pictures of a size there must be room for at once."""
    if not device.is_gpu or size == (0, 0):
        return wish.images
    return max(wish.images, pictures_at_once(*size))


def _recording_bytes(footprint: Footprint, wish: Wish) -> int:
    """Return what a GPU's recorded steps take, estimated as steps are."""
    if not wish.cuda_graphs:
        return 0
    largest = sizes_up_to(wish.max_num_seqs)[-1]
    row = footprint.facts.blueprint.vocab_size * ITEM_BYTES[footprint.dtype]
    rows = footprint.step_bytes(largest, 0)
    return recording_bytes(wish.max_num_seqs, step_bytes=rows + largest * row, score_bytes=row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another way that would fit, or not; `name` is a model's, None for the same."""

    fit: Fit
    choice: Choice
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """`ways` are the model's number formats; `best` is what to do if it does not fit as asked.

    `served` is how the server judges the same: it also keeps room for the largest picture.
    """

    fit: Fit
    served: Fit
    ways: tuple[Fit, ...]
    best: Alternative | None = None


def advise(
    facts: ModelFacts,
    device: DeviceMemory,
    wish: Wish,
    others: Iterable[tuple[str, ModelFacts]] = (),
) -> Judgement:
    """Judge what is asked, and if it does not fit find the best that does.

    What is given up first: keys and values beyond the room, then the length of the context, then
    how many run at once, then the number format (the first that keeps half the context, if one
    does), then the size of pictures, which a short context bounds, and how many are encoded
    together, then both, then the model itself, for the largest of `others` that fits.
    """
    fit, asked = judge(facts, device, wish), judge_served(facts, device, wish)
    told = tuple(_ways(facts, device, wish, judge))
    if asked.verdict == "fits":
        return Judgement(fit=fit, served=asked, ways=told)
    ways = tuple(_ways(facts, device, wish, judge_served))
    best = (
        _with_less(asked, facts, device)
        or _other_format(asked, ways)
        or _with_smaller_pictures(asked, facts, device)
        or _other_format_with_less(asked, ways, facts, device)
        or _other_model(asked, device, wish, others)
    )
    return Judgement(fit=fit, served=asked, ways=told, best=best)


def _with_less(asked: Fit, facts: ModelFacts, device: DeviceMemory) -> Alternative | None:
    """The same weights with a shorter context, or, if that does not help, fewer at once.

    Of keys and values that were asked for, and have no room whole, as many as have.
    """
    if (asked.wish.kv_cache_memory or 0) > asked.kv_room:
        wish = replace(asked.wish, kv_cache_memory=asked.kv_room // MIB * MIB)
        fit = judge_served(facts, device, wish)
        has_room = fit.verdict != "does not fit" and fit.context_that_fits
        return Alternative(fit=fit, choice="smaller cache") if has_room else None
    if asked.context_that_fits:
        wish = replace(asked.wish, context=_rounded(asked.context_that_fits))
        return Alternative(fit=judge_served(facts, device, wish), choice="shorter context")
    fewer = _most_at_once(asked, facts, device)
    return None if fewer is None else Alternative(fit=fewer, choice="fewer at once")


def _most_at_once(asked: Fit, facts: ModelFacts, device: DeviceMemory) -> Fit | None:
    """As many at once as fit; each takes room for its work besides its keys and values."""
    found, low, high = None, 0, asked.concurrency
    while high - low > 1:
        middle = (low + high) // 2
        fit = judge_served(facts, device, replace(asked.wish, concurrency=middle))
        if fit.verdict == "fits":
            found, low = fit, middle
        else:
            high = middle
    return found


def _with_smaller_pictures(
    asked: Fit, facts: ModelFacts, device: DeviceMemory
) -> Alternative | None:
    """The same weights for pictures that take less room while they are encoded.

    A context that a picture of its size does not fit in refuses it, so a short one bounds them.
    """
    wishes: list[tuple[Choice, Wish]] = []
    if asked.policy is not None and asked.policy.tokens_per_image is None:
        context = asked.context // 2
        while context >= asked.least_context:
            wishes.append(("shorter context", replace(asked.wish, context=_rounded(context))))
            context //= 2
    if asked.wish.images > 1:
        wishes.append(("fewer pictures", replace(asked.wish, images=1)))
    for choice, wish in wishes:
        fit = judge_served(facts, device, wish)
        if fit.verdict == "fits":
            return Alternative(fit=fit, choice=choice)
    return None


def _other_format_with_less(
    asked: Fit, ways: Iterable[Fit], facts: ModelFacts, device: DeviceMemory
) -> Alternative | None:
    """The first smaller way that fits if something else is given up, too."""
    for way in ways:
        if way.footprint.weight_bytes < asked.footprint.weight_bytes:
            less = _with_less(way, facts, device) or _with_smaller_pictures(way, facts, device)
            if less is not None:
                return replace(less, choice="other format")
    return None


def _other_format(asked: Fit, ways: Iterable[Fit]) -> Alternative | None:
    """The first smaller way that has room for half the context at least, or else for any."""
    smaller = [
        way
        for way in ways
        if way.footprint.weight_bytes < asked.footprint.weight_bytes
        and way.verdict != "does not fit"
    ]
    roomy = [way for way in smaller if way.verdict == "fits" or _keeps_half(way)]
    for way in roomy or smaller:
        return Alternative(fit=way, choice="other format")
    return None


def _keeps_half(way: Fit) -> bool:
    return 2 * way.context_that_fits >= way.context


def _ways(
    facts: ModelFacts,
    device: DeviceMemory,
    wish: Wish,
    judge: Callable[[ModelFacts, DeviceMemory, Wish], Fit],
) -> Iterable[Fit]:
    if facts.stored is not None:
        yield judge(facts, device, wish)
        return
    seen: set[int] = set()
    for language, vision in FORMATS:
        chosen = replace(wish, quantization=choose_quantization(language, vision))
        if language == "none":
            chosen = replace(chosen, dtype=wish.dtype or _own_dtype(facts, device))
        way = judge(facts, device, chosen)
        if way.footprint.weight_bytes not in seen:  # without a tower two ways are one
            seen.add(way.footprint.weight_bytes)
            yield way


def _other_model(
    asked: Fit, device: DeviceMemory, wish: Wish, others: Iterable[tuple[str, ModelFacts]]
) -> Alternative | None:
    """The largest model that fits, of those that see pictures if this one does."""
    sees = asked.footprint.facts.image_policy is not None
    by_size = [
        (name, facts)
        for name, facts in sorted(others, key=lambda other: -other[1].num_parameters)
        if (facts.image_policy is not None) == sees and facts != asked.footprint.facts
    ]
    plain = replace(wish, quantization=Quantization(), dtype=None, context=None)
    for name, facts in by_size:
        fit = judge_served(facts, device, plain)
        if fit.verdict != "does not fit":
            return Alternative(fit=fit, choice="other model", name=name)
    for name, facts in by_size:
        whole, *smaller = _ways(facts, device, plain, judge_served)
        found = (
            _other_format(whole, smaller)
            or _with_smaller_pictures(whole, facts, device)
            or _other_format_with_less(whole, smaller, facts, device)
        )
        if found is not None:
            return replace(found, choice="other model", name=name)
    return None


def _auto_dtype(facts: ModelFacts, quantization: Quantization, device: DeviceMemory) -> Dtype:
    plain = sum(
        weight.count * weight.size
        for weight in weights(facts.outline)
        if quantization.scheme(weight.name, weight.shape) is None
    )
    is_float32 = not device.is_gpu and is_better_as_float32(
        facts.dtype,
        has_bfloat16=device.has_bfloat16,
        num_parameters=plain,
        free_bytes=device.free,
    )
    return "float32" if is_float32 else _own_dtype(facts, device)


def _own_dtype(facts: ModelFacts, device: DeviceMemory) -> Dtype:
    """Return the checkpoint's format, or float16 where a GPU does not compute in its bfloat16."""
    is_foreign = device.is_gpu and not device.has_bfloat16 and facts.dtype == "bfloat16"
    return "float16" if is_foreign else facts.dtype


def _rounded(context: int) -> int:
    """A number that people type: down to whole 256s where it is long enough."""
    return context // 256 * 256 if context >= 1024 else context
