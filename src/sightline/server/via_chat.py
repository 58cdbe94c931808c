"""Other dialects by way of the chat request: its rules are applied once, and for all of them.

A dialect's conversion puts its body into the fields of a chat request and notes under which paths
the client knows them. What is refused or ignored then is said in the client's own words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from sightline.core.chat import ChatRequest, Notice
from sightline.server.contract import Answer, Asked
from sightline.server.intake import Terms
from sightline.server.json_shape import check_limits
from sightline.server.openai.convert import ChatCall, to_chat_call
from sightline.server.openai.schema import AnyBody, ChatBody, schema_error
from sightline.server.renames import Renames
from sightline.service.chat import Measure
from sightline.service.request_log import Facts
from sightline.service.strict_mode import refuse_warnings


def parse_body(model: type[AnyBody], body: bytes, terms: Terms) -> AnyBody:
    """Return the typed request. Raises `RequestError` with the path of what is wrong."""
    check_limits(body, terms.limits)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise schema_error(error) from None


def judge_chat(
    fields: Mapping[str, Any],
    renames: Renames,
    terms: Terms,
    *,
    request_id: str,
    notices: Sequence[Notice] = (),
) -> ChatCall:
    """Return what `fields` of a chat request ask for, as if they had been sent to it.

    `notices` are the dialect's own. Raises `RequestError` with the client's paths.
    """
    if terms.strict:
        refuse_warnings(notices)
    with renames.applied():
        try:
            body = ChatBody.model_validate(fields)
        except ValidationError as error:
            raise schema_error(error) from None
        call = to_chat_call(
            body,
            request_id=request_id,
            strict=terms.strict,
            cache_salt=terms.cache_salt,
            limits=terms.limits,
            taken=terms.taken,
        )
    return replace(
        call,
        request=renames.request(call.request),
        notices=(*notices, *renames.notices(call.notices)),
    )


@dataclass(frozen=True, slots=True)
class Renamed:
    """Takes requests for `chat`; its refusals carry the client's paths."""

    chat: Asked
    renames: Renames

    async def start(
        self, request: ChatRequest, *, streaming: bool = False, facts: Facts | None = None
    ) -> Answer:
        with self.renames.applied():
            return await self.chat.start(request, streaming=streaming, facts=facts)

    async def measure(self, request: ChatRequest) -> Measure:
        with self.renames.applied():
            return await self.chat.measure(request)
