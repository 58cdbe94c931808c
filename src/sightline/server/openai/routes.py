"""`POST /v1/chat/completions`: read, convert, ask the service, answer whole or as a stream."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from sightline.core.chat import Usage
from sightline.core.errors import InternalError
from sightline.server.context import RequestContext, context_of
from sightline.server.contract import Chat
from sightline.server.hangup import run_for_client
from sightline.server.intake import Terms, WithoutKnown, read_call
from sightline.server.lifecycle import Lifecycle
from sightline.server.openai.answers import AnswerForm, ChunkWriter, completion_object
from sightline.server.openai.convert import (
    ChatCall,
    report_object,
    system_fingerprint,
    to_chat_call,
)
from sightline.server.openai.schema import parse_chat_body
from sightline.server.options import ServerOptions
from sightline.server.router import Router
from sightline.server.sse import EventStream, block
from sightline.server.text_blocks import TextBlocks
from sightline.server.whole_answer import WholeAnswer, tell, whole_answer


def chat_router(chat: Chat, options: ServerOptions, lifecycle: Lifecycle) -> Router:
    router = Router()

    @router.post("/v1/chat/completions")
    @router.post("/chat/completions")
    async def create_chat_completion(request: Request) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()
        call = await read_call(request, options, read_chat)
        context.understood(call.request.request_id, call.notices, stream=call.stream)
        if call.stream:
            return EventStream(
                _stream(chat, call, context, lifecycle),
                lifecycle=lifecycle,
                keep_alive_s=options.limits.keep_alive_comment_s,
            )
        answer = await run_for_client(
            whole_answer(chat, call.request, context, lifecycle), request.receive, lifecycle
        )
        form = _form(chat, call, answer.model)
        return await tell([answer], partial(_completion, form, call, answer, context))

    return router


@WithoutKnown
def read_chat(body: bytes, terms: Terms) -> ChatCall:
    return to_chat_call(
        parse_chat_body(body, terms.limits),
        request_id=f"chatcmpl-{uuid.uuid4().hex}",
        strict=terms.strict,
        cache_salt=terms.cache_salt,
        limits=terms.limits,
        taken=terms.taken,
    )


def _form(chat: Chat, call: ChatCall, model: str) -> AnswerForm:
    return AnswerForm(
        completion_id=call.request.request_id,
        created=int(time.time()),
        model=model,
        fingerprint=system_fingerprint(chat.model),
        logprobs=call.request.logprobs is not None,
        legacy_functions=call.legacy_functions,
    )


def _completion(
    form: AnswerForm, call: ChatCall, answer: WholeAnswer, context: RequestContext
) -> dict[str, object]:
    """Return the whole `chat.completion` object."""
    completion = completion_object(form, answer)
    if call.report:
        completion["sightline"] = report_object(
            context.notices, answer.images, context.log, [choice.text for choice in answer.choices]
        )
    return completion


async def _stream(
    chat: Chat, call: ChatCall, context: RequestContext, lifecycle: Lifecycle
) -> AsyncGenerator[bytes, None]:
    """Yield the blocks of the stream up to `[DONE]`. Nothing is yielded before the first delta."""
    with lifecycle.running_answer():
        answer = await chat.start(call.request, streaming=True, facts=context.log)
        async with aclosing(answer):
            context.notices.extend(answer.notices)
            writer = ChunkWriter(
                form=_form(chat, call, answer.model), include_usage=call.include_usage
            )
            blocks = TextBlocks(writer)
            usage: Usage | None = None
            texts = [""] * call.request.n
            async for delta in answer:
                if call.report:
                    texts[delta.index] += delta.text
                # In one write: a role with the first text, a finish with the last.
                data = blocks.of(delta)
                usage = delta.usage
                if delta.finish_reason is not None:
                    chunks = list(writer.finish(delta))
                    if call.report and usage is not None:
                        chunks[-1]["sightline"] = report_object(
                            context.notices, answer.images, context.log, texts
                        )
                    data += b"".join(map(block, chunks))
                if data:
                    yield data
        if usage is None:
            raise InternalError
        if call.include_usage:
            yield block(writer.usage(usage))
