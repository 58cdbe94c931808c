"""The pass over a raw body agrees with a real parser about what it judges."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.errors import RequestError
from sightline.server import json_shape
from sightline.server.json_shape import check_shape

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
PLENTY = 10_000


def depth(value: Any) -> int:
    match value:
        case dict():
            return 1 + max(map(depth, value.values()), default=0)
        case list():
            return 1 + max(map(depth, value), default=0)
        case _:
            return 0


@pytest.fixture(params=[2, 1 << 20], ids=["2 bytes", "1 MiB"], autouse=True, scope="module")
def window(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where a window ends must not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_shape, "_WINDOW", request.param)
        yield


@settings(max_examples=40, deadline=None)
@given(VALUES, st.booleans())
def test_every_json_value_passes_at_its_own_depth_and_not_below(
    value: Any, ascii_only: bool
) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    check_shape(body, depth(value), PLENTY)
    if depth(value) > 0:
        with pytest.raises(RequestError, match="nests deeper"):
            check_shape(body, depth(value) - 1, PLENTY)


@settings(max_examples=40, deadline=None)
@given(st.text(), st.text())
def test_a_repeated_key_is_found_in_any_spelling(key: str, other: str) -> None:
    plain = json.dumps(key, ensure_ascii=False).encode("utf-8", "surrogatepass")
    escaped = b'"' + b"".join(b"\\u%04x" % unit for unit in _utf16(key)) + b'"'
    with pytest.raises(RequestError, match="repeats a key"):
        check_shape(b"[{%s:1,%s:2}]" % (plain, escaped), 9, PLENTY)
    if other != key:
        different = json.dumps(other).encode()
        check_shape(b"[{%s:1,%s:2},{%s:3}]" % (plain, different, plain), 9, PLENTY)


def _utf16(text: str) -> list[int]:
    data = text.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2)]


@pytest.mark.parametrize(
    "body",
    [b"NaN", b"[Infinity]", b'{"a": -Infinity}', b'{"a" : 1, "a" : 2}', b'{"a\\\\":1,"a\\\\":2}'],
)
def test_what_the_parser_would_let_through_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        check_shape(body, 9, PLENTY)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize(
    "body", [b'"NaN"', b'{"Infinity": "N"}', b'{"a": "a", "b": "a"}', b'["a", "a"]', b'{"\\"":1}']
)
def test_what_only_looks_bad_passes(body: bytes) -> None:
    check_shape(body, 9, PLENTY)


@settings(max_examples=200, deadline=None)
@given(st.binary() | st.text(alphabet='{}[]",:\\N1 a').map(str.encode))
def test_broken_bodies_never_raise_anything_else(body: bytes) -> None:
    with suppress(RequestError):
        check_shape(body, 9, PLENTY)


def test_the_place_is_counted_from_one() -> None:
    with pytest.raises(RequestError, match=r"at line 3, column 5\.$"):
        check_shape(b'{\n"a": 1,\n    "a": 2}', 9, PLENTY)


def test_values_are_counted() -> None:
    check_shape(b"[1,2,3]", 9, 4)
    with pytest.raises(RequestError, match="more than 3 values"):
        check_shape(b"[1,2,3]", 9, 3)


@pytest.mark.parametrize("body", [b'{"a":["b"]}', b'[{},[],"c"]', b'{"a":1,"b":2,"c":{}}'])
def test_texts_lists_and_objects_are_counted(body: bytes) -> None:
    num_texts = sum(body.count(token) for token in (b"[", b"{")) + body.count(b'"') // 2
    check_shape(body, 9, PLENTY, num_texts)
    with pytest.raises(RequestError, match=f"more than {num_texts - 1} names, texts"):
        check_shape(body, 9, PLENTY, num_texts - 1)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"model":"m","stop":["a","b","c"]}', "stop"),
        (b'{"a":{"b":[1,2,3,4]}}', "a"),
        (b"[1,2,3,4,5]", None),
        (b'{"no name":[1,2,3,4]}', None),
    ],
)
def test_a_body_that_is_too_rich_names_the_field(body, field):
    with pytest.raises(RequestError) as raised:
        check_shape(body, 8, 4, 5)
    assert raised.value.param == field
