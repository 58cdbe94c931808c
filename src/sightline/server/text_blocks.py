"""The quick way from a piece of text to its block of a stream.

Nearly all chunks of a stream differ in their text alone. So the chunk is built once, with a mark
where the text stands, and cut there; what is sent is exactly what the long way would send.
"""

from sightline.core.chat import ChatDelta
from sightline.server import ascii_json
from sightline.server.openai.answers import ChunkWriter
from sightline.server.sse import block

# A private character; a chunk that has it elsewhere as well goes the long way.
_MARK = "\ue000"
_CUT = ascii_json.encode(_MARK)


class TextBlocks:
    """Turns deltas into blocks of the stream that `writer` writes."""

    def __init__(self, writer: ChunkWriter) -> None:
        self._writer = writer
        self._around: dict[int, tuple[bytes, bytes]] = {}

    def of(self, delta: ChatDelta) -> bytes:
        """Return the blocks that tell `delta`, its finish excepted; empty for an idle one."""
        around = self._around.get(delta.index)
        if (
            around is not None
            and delta.text
            and not (delta.reasoning or delta.tool_calls or delta.logprobs)
        ):
            return around[0] + ascii_json.encode(delta.text) + around[1]
        data = b"".join(map(block, self._writer.chunks(delta)))
        if delta.text and around is None and not self._writer.form.logprobs:
            # The role has gone out: from now on, text changes nothing else.
            (chunk,) = self._writer.chunks(ChatDelta(index=delta.index, text=_MARK))
            before, *rest = block(chunk).split(_CUT)
            if len(rest) == 1:
                self._around[delta.index] = before, rest[0]
        return data
