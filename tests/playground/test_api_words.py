"""What the API page says in Chinese is what the OpenAPI document says, sentence by sentence."""

import json
import re
from collections.abc import Iterator
from typing import Any

from sightline.core.limits import Limits
from sightline.playground.site import STATIC
from sightline.server.openapi.document import openapi_document

DOCUMENT = openapi_document(Limits(), model="sightline-fake", needs_key=False)
ROW = re.compile(r'^  ("(?:[^"\\]|\\.)*"):\s+("(?:[^"\\]|\\.)*"),$', re.M)
NOT_SHOWN = re.compile("Each piece is JSON of the kind `[A-Za-z]+`.")


def sentences(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from sentences(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name in ("description", "summary") and isinstance(each, str):
                yield each
            elif name == "tags":
                yield from each
            else:
                yield from sentences(each)


def test_every_sentence_of_the_document_is_there_in_chinese_and_no_other() -> None:
    page = (STATIC / "js" / "api_words.js").read_text()
    rows = {json.loads(english): json.loads(chinese) for english, chinese in ROW.findall(page)}
    said = {sentence for sentence in sentences(DOCUMENT) if not NOT_SHOWN.fullmatch(sentence)}
    # A type may be told in its own word.
    assert said - {"function"} == set(rows)


def test_names_that_stand_as_code_are_the_same_in_both() -> None:
    page = (STATIC / "js" / "api_words.js").read_text()
    for english, chinese in ROW.findall(page):
        if "field=reason" not in english:
            assert set(re.findall("`[^`]+`", english)) == set(re.findall("`[^`]+`", chinese))
