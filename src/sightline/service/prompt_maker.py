"""Conversations to token ids, without making the event loop wait for long texts."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sightline.core.chat import Message, TextPart, Tool
from sightline.core.engine import EngineInfo
from sightline.core.errors import RequestError, shorten
from sightline.core.limits import KIB, MIB
from sightline.service.budget import TokenCounts, require_room
from sightline.service.formats.contract import Layout, PromptFormat, Tokenizer, TokensPerImage
from sightline.service.formats.registry import open_format

RawPrompt = str | tuple[int, ...]

# A character is at most 4 bytes of UTF-8, so this is at most 64 KiB.
MAX_LOOP_CHARS = 16 * KIB
# Longer texts are first measured by the longest token there is: encoding 32 MiB only to refuse it
# would cost seconds and hundreds of megabytes.
MAX_UNMEASURED_CHARS = MIB


class PromptMaker:
    """The tokenizer and the prompt format of one model. Threads of `pool` encode long texts."""

    def __init__(
        self, tokenizer: Tokenizer, prompt_format: PromptFormat, pool: ThreadPoolExecutor
    ) -> None:
        self.tokenizer = tokenizer
        self.format = prompt_format
        self._pool = pool
        self._max_token_bytes = max(
            len(tokenizer.token_bytes(token_id)) for token_id in range(tokenizer.num_tokens)
        )

    @classmethod
    async def load(
        cls,
        info: EngineInfo,
        load_tokenizer: Callable[[str], Tokenizer],
        pool: ThreadPoolExecutor,
    ) -> "PromptMaker":
        """Raises `StartupError` when the tokenizer or the format cannot be used."""

        def build() -> PromptMaker:
            tokenizer = load_tokenizer(info.tokenizer_file)
            return cls(tokenizer, open_format(info.prompt_format, tokenizer), pool)

        return await asyncio.get_running_loop().run_in_executor(pool, build)

    def min_text_tokens(self, prompt: Sequence[Message] | RawPrompt) -> int:
        """Return a number of tokens that the text surely needs; 0 unless the text is huge."""
        num_chars = _num_chars(prompt)
        if num_chars <= MAX_UNMEASURED_CHARS:
            return 0
        return -(-num_chars // self._max_token_bytes)

    async def layout(
        self,
        messages: Sequence[Message],
        *,
        tokens_per_image: TokensPerImage,
        tools: Sequence[Tool] = (),
        thinking: bool | None = None,
    ) -> Layout:
        """Return the prompt without its pixels; see `PromptFormat.layout`."""
        render = partial(
            self.format.layout,
            messages,
            tokens_per_image=tokens_per_image,
            tools=tools,
            thinking=thinking,
        )
        if _num_chars(messages) <= MAX_LOOP_CHARS and not tools:
            return render()
        return await asyncio.get_running_loop().run_in_executor(self._pool, render)

    def require_known_biases(self, logit_bias: Sequence[tuple[int, float]]) -> None:
        """Raise `RequestError` for an id that the tokenizer does not have."""
        num_tokens = self.tokenizer.num_tokens
        for token_id, _ in logit_bias:
            if token_id >= num_tokens:
                raise RequestError(
                    f"logit_bias: token id {token_id} is not one of this model's: "
                    f"0 to {num_tokens - 1}.",
                    code="invalid_value",
                    param="logit_bias",
                )

    async def layout_raw(self, prompt: RawPrompt) -> Layout:
        """Return a prompt that is to be continued as it is; ids are taken at their word.

        Raises `RequestError` for an id that the tokenizer does not have.
        """
        if not isinstance(prompt, str):
            self._require_known(prompt, "prompt")
            return _not_empty(prompt)
        return _not_empty((*self.format.text_prefix, *await self.encode(prompt)))

    async def encode(self, text: str) -> Sequence[int]:
        """Return the ids of ordinary text; none of them is a control token."""
        if len(text) <= MAX_LOOP_CHARS:
            return self.tokenizer.encode(text)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self.tokenizer.encode, text)

    async def tokenize(self, text: str, *, with_prefix: bool, window: int) -> tuple[int, ...]:
        """Return the ids of `text`; `with_prefix` those that open a raw prompt, too.

        Raises `RequestError` for a text of megabytes that surely is beyond `window`.
        """
        if least := self.min_text_tokens(text):
            require_room(TokenCounts(text=least), window=window, at_least=True)
        prefix = self.format.text_prefix if with_prefix else ()
        return (*prefix, *await self.encode(text))

    async def text_of(self, token_ids: Sequence[int], *, param: str) -> str:
        """Return the text that `token_ids`, which stand at `param`, mean; control tokens say none.

        Raises `RequestError` for an id that the tokenizer does not have.
        """
        self._require_known(token_ids, param)

        def join() -> str:
            return b"".join(map(self.tokenizer.token_bytes, token_ids)).decode("utf-8", "replace")

        if len(token_ids) <= MAX_LOOP_CHARS:
            return join()
        return await asyncio.get_running_loop().run_in_executor(self._pool, join)

    def token_strings(self, token_ids: Sequence[int]) -> list[str]:
        """Return the text of each token by itself; half a character reads U+FFFD."""
        token_bytes = self.tokenizer.token_bytes
        return [token_bytes(token_id).decode("utf-8", "replace") for token_id in token_ids]

    def _require_known(self, token_ids: Sequence[int], param: str) -> None:
        num_tokens = self.tokenizer.num_tokens
        for token_id in token_ids:
            if not 0 <= token_id < num_tokens:
                raise RequestError(
                    f"{param}: token id {shorten(str(token_id))} is not one of this model's: "
                    f"0 to {num_tokens - 1}.",
                    code="invalid_value",
                    param=param,
                )


def _not_empty(token_ids: tuple[int, ...]) -> Layout:
    if not token_ids:
        raise RequestError("prompt: is empty.", code="invalid_value", param="prompt")
    return Layout(token_ids=token_ids)


def _num_chars(prompt: Sequence[Message] | RawPrompt) -> int:
    if isinstance(prompt, str):
        return len(prompt)
    return sum(_text_length(message) for message in prompt if isinstance(message, Message))


def _text_length(message: Message) -> int:
    said = sum(len(part.text) for part in message.parts if isinstance(part, TextPart))
    called = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return said + called + len(message.reasoning)
