"""Which file speaks which format. A new family adds one line here."""

from collections.abc import Callable

from sightline.core.errors import StartupError, shorten
from sightline.service.formats.contract import PromptFormat, Tokenizer
from sightline.service.formats.glm4 import Glm4Format
from sightline.service.formats.qwen2_vl import qwen2_vl_format
from sightline.service.formats.qwen_vl import qwen_vl_format

FORMATS: dict[str, Callable[[Tokenizer], PromptFormat]] = {
    "glm4": Glm4Format,
    "qwen_vl": qwen_vl_format,
    "qwen2_vl": qwen2_vl_format,
}


def open_format(name: str, tokenizer: Tokenizer) -> PromptFormat:
    """Return the format called `name`, bound to `tokenizer`.

    Raises `StartupError` when there is no such format.
    """
    try:
        bind = FORMATS[name]
    except KeyError:
        known = ", ".join(FORMATS)
        raise StartupError(
            f"Prompt format '{shorten(name)}' is not supported; supported: {known}."
        ) from None
    return bind(tokenizer)
