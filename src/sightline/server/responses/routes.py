"""OpenAI's Responses API, stateless: every request brings its whole input, nothing is kept."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response

from sightline.core.errors import RequestError, SightlineError, shorten
from sightline.server import ascii_json
from sightline.server.context import RequestContext, context_of
from sightline.server.contract import Chat
from sightline.server.error_map import error_message
from sightline.server.hangup import run_for_client
from sightline.server.intake import Terms, WithoutKnown, read_call
from sightline.server.lifecycle import Lifecycle
from sightline.server.options import ServerOptions
from sightline.server.responses.answer import Json, ResponseForm, final_status, new_id, output_items
from sightline.server.responses.convert import ResponsesCall, to_responses_call
from sightline.server.responses.events import ResponseEvents
from sightline.server.responses.schema import ResponsesBody
from sightline.server.router import Router
from sightline.server.sse import EventStream, StreamForm, named_block
from sightline.server.via_chat import Renamed, parse_body
from sightline.server.whole_answer import tell, whole_answer


def responses_router(chat: Chat, options: ServerOptions, lifecycle: Lifecycle) -> Router:
    router = Router()

    @router.post("/v1/responses")
    @router.post("/responses")
    async def create_response(request: Request) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()
        asked = await read_call(request, options, _understand)
        call = asked.call
        context.understood(call.request.request_id, call.notices, stream=call.stream)
        form = ResponseForm(
            response_id=call.request.request_id,
            created=int(time.time()),
            model=chat.model.id,
            body=asked.body,
        )
        if call.stream:
            events = ResponseEvents(form)
            return EventStream(
                _stream(chat, asked, events, context, lifecycle),
                lifecycle=lifecycle,
                keep_alive_s=options.limits.keep_alive_comment_s,
                form=_stream_form(events),
            )
        answer = await run_for_client(
            whole_answer(Renamed(chat, asked.renames), call.request, context, lifecycle),
            request.receive,
            lifecycle,
        )
        (choice,) = answer.choices
        status = final_status(choice.finish_reason)

        def build() -> object:
            return form.response(status, output_items(choice), usage=answer.usage)

        return await tell([answer], build)

    @router.post("/v1/responses/input_tokens")
    @router.post("/responses/input_tokens")
    async def count_response_tokens(request: Request) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()
        asked = await read_call(request, options, _understand)
        context.notices.extend(asked.call.notices)
        measure = await Renamed(chat, asked.renames).measure(asked.call.request)
        context.notices.extend(measure.notices)
        return _json({"object": "response.input_tokens", "input_tokens": measure.counts.total})

    @router.route("/v1/responses/{name:path}", "GET", "HEAD", "DELETE")
    @router.route("/responses/{name:path}", "GET", "HEAD", "DELETE")
    @router.get("/v1/responses/{name}/input_items")
    @router.get("/responses/{name}/input_items")
    @router.post("/v1/responses/{name}/cancel")
    @router.post("/responses/{name}/cancel")
    async def find_response(request: Request) -> Response:
        name = shorten(request.path_params["name"])
        raise RequestError(f"No such response: '{name}'.", code="response_not_found")

    return router


@WithoutKnown
def _understand(body: bytes, terms: Terms) -> ResponsesCall:
    return to_responses_call(
        parse_body(ResponsesBody, body, terms), terms, request_id=new_id("resp")
    )


def _stream_form(events: ResponseEvents) -> StreamForm:
    def failed(error: SightlineError, request_id: str) -> bytes:
        return _blocks(events.fail(_failure(error), error_message(error, request_id)))

    return StreamForm(end=b"", error=failed)


def _failure(error: SightlineError) -> str:
    """Return one of the codes that a failed response may have."""
    return "invalid_prompt" if isinstance(error, RequestError) else "server_error"


async def _stream(
    chat: Chat,
    asked: ResponsesCall,
    events: ResponseEvents,
    context: RequestContext,
    lifecycle: Lifecycle,
) -> AsyncGenerator[bytes, None]:
    """Yield all events of the stream. Nothing is yielded before the first delta."""
    with lifecycle.running_answer():
        answer = await Renamed(chat, asked.renames).start(
            asked.call.request, streaming=True, facts=context.log
        )
        async with aclosing(answer):
            context.notices.extend(answer.notices)
            blocks = _blocks(events.start())
            tells_tokens = asked.call.request.logprobs is not None
            async for delta in answer:
                # The last events repeat the likelihoods of all tokens, several times.
                if tells_tokens and delta.finish_reason is not None:
                    told = await asyncio.to_thread(_blocks, events.of(delta))
                else:
                    told = _blocks(events.of(delta))
                # The head goes out with the first text: one write less before the first word.
                if blocks or told:
                    yield blocks + told
                blocks = b""


def _blocks(events: Iterator[Json]) -> bytes:
    return b"".join(named_block(event["type"], event) for event in events)


def _json(value: object) -> Response:
    return Response(ascii_json.encode(value), media_type="application/json")
