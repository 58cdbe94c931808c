"""The quick way writes exactly what the long way would."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sightline.core.chat import ChatDelta
from sightline.server.openai.answers import AnswerForm, ChunkWriter
from sightline.server.sse import block
from sightline.server.text_blocks import TextBlocks


def writer(**fields: bool) -> ChunkWriter:
    form = AnswerForm(completion_id="chatcmpl-1", created=1, model="\ue000 m", fingerprint="fp")
    return ChunkWriter(form=form, include_usage=fields.get("include_usage", False))


def the_long_way(deltas: Sequence[ChatDelta], **fields: bool) -> bytes:
    chunks = writer(**fields)
    return b"".join(block(chunk) for delta in deltas for chunk in chunks.chunks(delta))


deltas = st.lists(
    st.builds(
        ChatDelta,
        index=st.integers(0, 2),
        text=st.text() | st.sampled_from(["\ue000", '"\ue000"', "\u2028", "\ud800", "\\"]),
        reasoning=st.just("") | st.just("") | st.text(max_size=3),
    )
)


@given(deltas, st.booleans())
def test_both_ways_write_the_same_bytes(said: list[ChatDelta], include_usage: bool) -> None:
    blocks = TextBlocks(writer(include_usage=include_usage))
    written = b"".join(blocks.of(delta) for delta in said)
    assert written == the_long_way(said, include_usage=include_usage)
