"""What happens to a chat request, from its arrival to the first word of its answer.

    name the model -> permit -> place images -> lay out -> fit -> load images -> generate

Nothing is worked on without a permit, no image is fetched for a prompt that does not fit, and the
engine sees only requests that can be served. The answer takes over from the first delta on.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from sightline.core.chat import ChatRequest, ImageReport, Notice
from sightline.core.engine import Engine, EngineStats
from sightline.core.limits import Limits
from sightline.core.prompt import Image
from sightline.service.admission import Admission
from sightline.service.answer import ChatAnswer
from sightline.service.budget import AnswerBudget, TokenCounts, budget_answer, require_room
from sightline.service.caller import current_caller
from sightline.service.choices import read_choices
from sightline.service.deadline import Deadline
from sightline.service.engine_metrics import QueueNumbers
from sightline.service.formats.contract import Layout, Tokenizer
from sightline.service.generation import (
    grammar_of,
    notices_of,
    plan_generation,
    suspects_of,
    tools_in_use,
)
from sightline.service.grammar_check import GrammarCheck, Suspect
from sightline.service.image_supply import (
    FetchedImages,
    ImageLoader,
    ImageSupply,
    image_notices,
    images_of,
    reports_of,
    tokens_per_image,
)
from sightline.service.media_times import measured_media
from sightline.service.metrics import Metrics
from sightline.service.pixel_bounds import bounds_notices, detail_notices, with_detail
from sightline.service.placement import ExtraImages, Placement, place_images
from sightline.service.prompt_maker import PromptMaker
from sightline.service.request_log import Facts, RequestLog
from sightline.service.served_model import ServedModel
from sightline.service.strict_mode import refuse_warnings

NUM_TEXT_THREADS = 2
# A small window does not mean that few prompts may wait.
LEAST_WINDOW = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How this server offers its model.

    `served_name` takes the place of the model's own id. `extra_images` says what becomes of more
    images than the model takes, when they stand in earlier messages: `latest` keeps the latest
    ones with a notice, `error` refuses. `low_detail_pixels` is what a picture sent with `detail:
    low` may have at most, where the model takes pictures of any size. `default_max_tokens` is the
    length of an answer for which none was asked; the window may leave less.
    """

    served_name: str | None = None
    aliases: tuple[str, ...] = ()
    extra_images: ExtraImages = "latest"
    low_detail_pixels: int | None = None
    default_max_tokens: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A prompt without its pixels, and what would be noticed about its answer."""

    model: ServedModel
    layout: Layout
    notices: tuple[Notice, ...]

    @property
    def counts(self) -> TokenCounts:
        return _counts(self.layout)


class ChatService:
    """Chat on one engine. Every method runs on the event loop.

    `load_tokenizer` gets `EngineInfo.tokenizer_file`; it is called once, in a thread.
    """

    def __init__(
        self,
        engine: Engine,
        images: ImageLoader,
        *,
        load_tokenizer: Callable[[str], Tokenizer],
        limits: Limits | None = None,
        options: ChatOptions | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.metrics = metrics or Metrics()
        self.options = options or ChatOptions()
        self.admission = Admission(
            max_running=self.limits.max_running,
            max_waiting=self.limits.max_waiting,
            queue_timeout_s=self.limits.queue_timeout_s,
        )
        self._engine = engine
        self._images = ImageSupply(images)
        self._load_tokenizer = load_tokenizer
        self._text_pool = ThreadPoolExecutor(NUM_TEXT_THREADS, thread_name_prefix="text")
        self._grammar_check = GrammarCheck(self.limits)
        self._prompt_maker: PromptMaker | None = None
        self._preparing = asyncio.Lock()

    @property
    def model(self) -> ServedModel:
        """Raises `Unavailable` (`model_loading`) before the model has been loaded once."""
        return ServedModel.of(
            self._engine.info,
            served_name=self.options.served_name,
            aliases=self.options.aliases,
            low_detail_pixels=self.options.low_detail_pixels,
        )

    @property
    def is_ready(self) -> bool:
        """A chat request that comes now would be worked on."""
        return self._engine.is_ready and not self.admission.is_draining

    @property
    def queue_numbers(self) -> QueueNumbers:
        """The books of admission."""
        return QueueNumbers(
            num_admitted=self.admission.num_running, num_waiting=self.admission.num_waiting
        )

    async def engine_stats(self) -> EngineStats:
        """Raises `Unavailable` when the engine is not up."""
        return await self._engine.stats()

    async def prepare(self) -> None:
        """Load the tokenizer, so that the first request need not wait for it.

        Raises `StartupError` when it cannot be used, `Unavailable` before the model is loaded.
        """
        await self.vocabulary()

    async def start(
        self, request: ChatRequest, *, streaming: bool = False, facts: Facts | None = None
    ) -> ChatAnswer:
        """Do everything up to the first text of the answer, and return the answer.

        Whatever can be refused is refused here: `RequestError` for the request, `Overloaded` and
        `Unavailable` for the moment, `GenerationTimeout` when the total time is up (streams have
        a longer one), `InternalError` when the engine failed this request. Cancelling the call
        leaves nothing behind. `facts` gains what the request costs until its answer has ended.
        """
        limits = self.limits
        deadline = Deadline(limits.stream_timeout_s if streaming else limits.total_timeout_s)
        log = RequestLog({} if facts is None else facts, self.metrics, current_caller.get())
        log.asked(request)
        async with AsyncExitStack() as resources:
            resources.callback(deadline.close)
            try:
                async with deadline.enforce():
                    return await self._start(request, deadline, log, resources)
            except BaseException as error:
                log.fail(error)
                raise

    async def measure(self, request: ChatRequest) -> Measure:
        """Return the prompt of `request` and what it costs, without decoding an image.

        Its notices are those of the answer, but for what only decoding tells. Images are fetched
        only for a model to which their sizes matter. The prompt may be longer than the window.
        Raises `RequestError` as `start` does.
        """
        model = self.model
        model.require_name(request.model)
        current_caller.get().require_model(request.model)
        placement = self._place(request, model)
        if request.strict:
            refuse_warnings(placement.notices)
        maker = await self.vocabulary()
        await self._judge(request, maker)
        async with AsyncExitStack() as media:
            fetched = await self._images.fetch(placement, model, media)
            layout = await self._lay_out(request, placement, model, fetched, require_fit=False)
        counts = _counts(layout)
        has_room = counts.total < model.info.max_model_len
        budget = self._budget(request, counts, model).notices if has_room else ()
        notices = (*placement.notices, *budget, *notices_of(request, maker.format))
        if request.strict:
            refuse_warnings(notices)
        return Measure(model=model, layout=layout, notices=notices)

    async def vocabulary(self) -> PromptMaker:
        """Return the model's tokenizer and prompt format. Raises as `prepare` does."""
        if self._prompt_maker is None:
            async with self._preparing:
                if self._prompt_maker is None:
                    self._prompt_maker = await PromptMaker.load(
                        self._engine.info, self._load_tokenizer, self._text_pool
                    )
        return self._prompt_maker

    async def preview(self, request: ChatRequest) -> tuple[tuple[Image, ImageReport], ...]:
        """Return the images of `request` as the model would see them, in order.

        Raises what `start` raises for an image. Asking for an answer soon does not decode again.
        """
        measure = await self.measure(request)
        current_caller.get().require_images(len(measure.layout.images))
        async with self.admission.permit(current_caller.get().name):
            with measured_media() as times:
                images = await self._images.load(
                    measure.layout, measure.model, request.cache_salt, None
                )
        prompt = measure.layout.fill(images, cache_salt=request.cache_salt)
        reports = reports_of(prompt, measure.layout, measure.model, times)
        return tuple(zip(images, reports, strict=True))

    def drain(self) -> None:
        """Refuse new requests from now on (`draining`); those that were let in are served."""
        self.admission.drain()

    async def wait_idle(self) -> None:
        """Return once every request that was let in has ended."""
        await self.admission.wait_idle()

    async def close(self) -> None:
        """Stop threads and workers. Requests must have ended; the engine is not closed."""
        self._text_pool.shutdown(wait=False, cancel_futures=True)
        await self._grammar_check.close()

    async def _start(
        self,
        request: ChatRequest,
        deadline: Deadline,
        log: RequestLog,
        resources: AsyncExitStack,
    ) -> ChatAnswer:
        model = self.model
        log.model(model.id)
        model.require_name(request.model)
        current_caller.get().require_model(request.model)
        await resources.enter_async_context(self.admission.permit(current_caller.get().name))
        log.lap("queue_s")

        placement = self._place(request, model)
        maker = await self.vocabulary()
        grammar = await self._judge(request, maker)
        media = await resources.enter_async_context(AsyncExitStack())
        fetched = await self._images.fetch(placement, model, media)
        layout = await self._lay_out(request, placement, model, fetched, require_fit=True)
        current_caller.get().require_images(len(layout.images))
        counts = _counts(layout)
        place = resources.enter_context(
            self.admission.line(
                counts.total,
                max_tokens=self.limits.max_waiting_windows
                * max(model.info.max_model_len, LEAST_WINDOW),
            )
        )
        log.prompt(text_tokens=counts.text, image_tokens=counts.image)
        budget = self._budget(request, counts, model)
        notices = (
            *placement.notices,
            *budget.notices,
            *notices_of(request, maker.format),
        )
        if request.strict:
            refuse_warnings(notices)
        log.lap("layout_s")

        with measured_media() as times:
            images = await self._images.load(layout, model, request.cache_salt, fetched)
        await media.aclose()
        log.lap("media_s")
        log.images(images, times)
        of_images = image_notices(layout, images)
        if request.strict:
            refuse_warnings(of_images)

        prompt = layout.fill(images, cache_salt=request.cache_salt)
        generation = plan_generation(
            request,
            model.info,
            tokenizer=maker.tokenizer,
            prompt_format=maker.format,
            max_tokens=budget.max_tokens,
            grammar=grammar,
        )
        deltas = read_choices(self._engine, prompt, generation, log)
        resources.push_async_callback(deltas.aclose)
        first = await anext(deltas)
        place.leave()
        return ChatAnswer(
            model=model.id,
            counts=counts,
            images=reports_of(prompt, layout, model, times),
            notices=(*notices, *of_images),
            first=first,
            deltas=deltas,
            deadline=deadline,
            log=log,
            resources=resources.pop_all(),
        )

    async def _judge(self, request: ChatRequest, maker: PromptMaker) -> str | None:
        """Return the grammar of the answer. Raises `RequestError` for what cannot be enforced."""
        maker.require_known_biases(request.logit_bias)
        if request.response_format is None and not request.tools:
            return None

        def read_schemas() -> tuple[str | None, list[Suspect]]:
            grammar = grammar_of(request, maker.format)
            return grammar, suspects_of(request, grammar, self.limits)

        # Schemas of hundreds of kilobytes take tenths of a second.
        loop = asyncio.get_running_loop()
        grammar, suspects = await loop.run_in_executor(self._text_pool, read_schemas)
        await self._grammar_check.check(suspects)
        return grammar

    def _budget(
        self, request: ChatRequest, counts: TokenCounts, model: ServedModel
    ) -> AnswerBudget:
        return budget_answer(
            request.max_tokens,
            counts,
            window=model.info.max_model_len,
            default=request.default_max_tokens or self.options.default_max_tokens,
            param=request.max_tokens_param,
        )

    def _place(self, request: ChatRequest, model: ServedModel) -> Placement:
        policy = model.info.image_policy
        placement = place_images(
            request.messages,
            max_images=min(policy.max_images, self.limits.max_images) if policy else 0,
            extra_images=self.options.extra_images,
            model_id=model.id,
        )
        images, low_pixels = images_of(placement), model.low_detail_pixels
        notices = (*detail_notices(images, low_pixels), *bounds_notices(images, policy))
        return replace(
            placement,
            messages=tuple(with_detail(each, low_pixels) for each in placement.messages),
            notices=(*placement.notices, *notices),
        )

    async def _lay_out(
        self,
        request: ChatRequest,
        placement: Placement,
        model: ServedModel,
        fetched: FetchedImages | None,
        *,
        require_fit: bool,
    ) -> Layout:
        """Lay out the prompt; raise `context_length_exceeded` if it must fit and does not.

        A text of megabytes must fit in any case: it is not worth encoding only to be counted.
        """
        raw = request.raw_prompt
        policy = model.info.image_policy
        window = model.info.max_model_len
        maker = await self.vocabulary()
        min_text_tokens = maker.min_text_tokens(placement.messages if raw is None else raw)
        if min_text_tokens:
            num_images = sum(len(message.images) for message in placement.messages)
            fewest = policy.fewest_tokens if policy else 0
            least = TokenCounts(text=min_text_tokens, image=num_images * fewest)
            require_room(least, window=window, at_least=True)
        if raw is None:
            layout = await maker.layout(
                placement.messages,
                tokens_per_image=tokens_per_image(policy, images_of(placement), fetched),
                tools=tools_in_use(request).tools,
                thinking=request.thinking,
            )
        else:
            layout = await maker.layout_raw(raw)
        if require_fit:
            require_room(_counts(layout), window=window)
        return layout


def _counts(layout: Layout) -> TokenCounts:
    return TokenCounts(text=layout.num_text_tokens, image=layout.num_image_tokens)
