"""ChatML as Qwen2-VL and Qwen2.5-VL speak it.

    <|im_start|>user\\n<|vision_start|>{picture}<|vision_end|>{text}<|im_end|>\\n

A picture is as many `<|image_pad|>` as its patches make rows after merging, which depends on its
size. A role and what follows it are encoded as one text, as the published template does. The marks
of grounding are single tokens in the answer, and again where the answer is part of the history.

Source: `chat_template.json` published with Qwen2-VL-7B-Instruct and Qwen2.5-VL-7B-Instruct.
"""

import re

from sightline.service.formats.chatml import ChatMlFormat, Dialect
from sightline.service.formats.contract import Tokenizer

DIALECT = Dialect(
    begin="<|vision_start|>",
    filler="<|image_pad|>",
    end="<|vision_end|>",
    words=re.compile(r"(<\|(?:object_ref|box|quad)_(?:start|end)\|>)"),
)


def qwen2_vl_format(tokenizer: Tokenizer) -> ChatMlFormat:
    return ChatMlFormat(tokenizer, DIALECT)
