"""A small client of the OpenAI-compatible API, as the command line uses it."""

from sightline.client.chat import Client
from sightline.client.errors import ClientError, ServerUnreachable
from sightline.client.wire import Answer, Chunk, Message, ModelCard, Usage, image_part, text_part

__all__ = [
    "Answer",
    "Chunk",
    "Client",
    "ClientError",
    "Message",
    "ModelCard",
    "ServerUnreachable",
    "Usage",
    "image_part",
    "text_part",
]
