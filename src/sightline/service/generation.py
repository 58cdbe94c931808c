"""What a chat request asks of the engine, in the engine's words and the model's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sightline.core.chat import ChatRequest, Likelihood, Notice, TokenLikelihood
from sightline.core.engine import EngineInfo, TokenDelta
from sightline.core.limits import Limits
from sightline.core.sampling import SamplingParams
from sightline.service.answer_text import AnswerText
from sightline.service.formats import lark
from sightline.service.formats.contract import (
    AnswerParser,
    PromptFormat,
    Tokenizer,
    ToolUse,
)
from sightline.service.formats.plain import PlainAnswer
from sightline.service.formats.thinking import ThinkingAnswer
from sightline.service.grammar_check import Suspect
from sightline.service.schemas import check_numbers, check_schema, multiples

SEED_MASK = 2**64 - 1


def tools_in_use(request: ChatRequest) -> ToolUse:
    """Return the tools that the answer may call."""
    choice = request.tool_choice
    return ToolUse(
        tools=tuple(tool for tool in request.tools if choice.allows(tool.name)),
        parallel=request.parallel_tool_calls and choice.name is None,
        stream_arguments=request.stream_tool_arguments,
    )


def grammar_of(request: ChatRequest, prompt_format: PromptFormat) -> str | None:
    """Return the grammar that the whole answer must obey, if something was demanded.

    What continues a text has no dialogue's syntax around it, and calls nothing.
    """
    wanted = request.response_format
    if request.raw_prompt is not None:
        return None if wanted is None else lark.whole(lark.json_value(wanted.schema))
    use = tools_in_use(request)
    must_call = request.tool_choice.mode == "required"
    if wanted is None and not must_call:
        return None
    said = None
    if not must_call:
        assert wanted is not None
        said = lark.json_value(wanted.schema)
    return prompt_format.grammar(use, said=said)


def suspects_of(request: ChatRequest, grammar: str | None, limits: Limits) -> list[Suspect]:
    """Return what must compile before anything is done for `request`.

    Every schema by itself, so that a complaint can name it, then `grammar`, all of them
    together, and then single numbers. Where tools are only offered, what cannot be enforced of
    keywords, patterns and numbers is no fault. Raises `RequestError` for schemas that need no
    compiler to be refused.
    """
    suspects = []
    wanted = request.response_format
    if wanted is not None and wanted.schema is not None:
        check_schema(wanted.schema, wanted.param, limits)
        check_numbers(wanted.schema, wanted.param)
        expression = lark.json_value(wanted.schema)
        suspects.append(
            Suspect(grammar=lark.whole(expression), param=wanted.param, schema=wanted.schema)
        )
    used = {tool.name for tool in tools_in_use(request).tools}
    for tool in request.tools:
        check_schema({"type": "object", **tool.parameters}, tool.param, limits)
        lenient = grammar is None or tool.name not in used
        if not lenient:
            check_numbers(tool.parameters, tool.param)
        suspects.append(
            Suspect(
                grammar=lark.whole(lark.arguments_of(tool, lenient=lenient)),
                param=tool.param,
                schema=tool.parameters,
                lenient=lenient,
            )
        )
    if grammar is not None and len(suspects) > 1:
        suspects.append(Suspect(grammar=grammar, param="tools"))
    return [*suspects, *_multiples_in(suspects)]


def _multiples_in(suspects: Sequence[Suspect]) -> Iterator[Suspect]:
    """Yield, by themselves, the numbers of which bounds and steps may leave none that is told."""
    for suspect in suspects:
        if suspect.schema is not None and not suspect.lenient:
            for part in multiples(suspect.schema):
                grammar = lark.whole(lark.json_value(part))
                yield Suspect(grammar=grammar, param=suspect.param, schema=part)


def notices_of(request: ChatRequest, prompt_format: PromptFormat) -> tuple[Notice, ...]:
    """Return what was asked for and makes no difference to this model."""
    if prompt_format.thinks:
        return ()
    return tuple(
        Notice(field=name, reason="model-does-not-think", severity="info")
        for name in request.thinking_params
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """How the answers to one request are generated and read."""

    request: ChatRequest
    format: PromptFormat
    tokenizer: Tokenizer
    params: SamplingParams

    def choice_params(self, index: int) -> SamplingParams:
        """Return the settings of one choice: the first has the request's seed, others follow."""
        if index == 0 or self.params.seed is None:
            return self.params
        return replace(self.params, seed=(self.params.seed + index) & SEED_MASK)

    def answer_text(self) -> AnswerText:
        return AnswerText(
            self.tokenizer,
            self._parser(),
            stop=self.request.stop,
            stop_token_ids=self.params.stop_token_ids,
        )

    def likelihoods(self, delta: TokenDelta) -> tuple[TokenLikelihood, ...]:
        """Return the likelihoods that came with `delta`, with the texts of their tokens."""
        if not delta.logprobs:
            return ()
        return tuple(
            TokenLikelihood(
                token_id=token_id,
                raw=self.tokenizer.token_bytes(token_id),
                text=self._name(token_id),
                logprob=entry.logprob,
                top=tuple(self._likelihood(*alternative) for alternative in entry.top),
            )
            for token_id, entry in zip(delta.token_ids, delta.logprobs, strict=False)
        )

    def _parser(self) -> AnswerParser:
        if self.request.raw_prompt is not None:
            return PlainAnswer()
        parser = self.format.answer_parser(tools_in_use(self.request))
        return ThinkingAnswer(parser) if self.request.split_reasoning else parser

    def _likelihood(self, token_id: int, logprob: float) -> Likelihood:
        raw = self.tokenizer.token_bytes(token_id)
        return Likelihood(token_id=token_id, raw=raw, text=self._name(token_id), logprob=logprob)

    def _name(self, token_id: int) -> str:
        raw = self.tokenizer.token_bytes(token_id)
        if raw:
            return raw.decode("utf-8", "replace")
        names = self.tokenizer.special_tokens.items()
        return next((name for name, special_id in names if special_id == token_id), "")


def plan_generation(
    request: ChatRequest,
    info: EngineInfo,
    *,
    tokenizer: Tokenizer,
    prompt_format: PromptFormat,
    max_tokens: int,
    grammar: str | None,
) -> Generation:
    stop_token_ids = dict.fromkeys((*info.eos_token_ids, *prompt_format.stop_token_ids))

    def given(value: float | None, default: float) -> float:
        return default if value is None else value

    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=given(request.temperature, info.default_temperature),
        top_p=given(request.top_p, info.default_top_p),
        top_k=info.default_top_k if request.top_k is None else request.top_k,
        min_p=given(request.min_p, 0.0),
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=given(request.repetition_penalty, info.default_repetition_penalty),
        logit_bias=request.logit_bias,
        logprobs=request.logprobs,
        seed=request.seed,
        stop_token_ids=tuple(stop_token_ids),
        grammar=grammar,
    )
    return Generation(request=request, format=prompt_format, tokenizer=tokenizer, params=params)
