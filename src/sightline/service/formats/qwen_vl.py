"""ChatML as Qwen-VL-Chat and Qwen's first generation of chat models speak it.

    \\n<|im_start|>user\\nPicture 1: <img>{picture}</img>\\n{text}<|im_end|>

- Roles, newlines and contents are encoded apart.
- Between `<img>` and `</img>` stand 256 `<imgpad>`, whose rows the picture replaces. The original
  writes the picture's path there, so that whoever asks can make it open any file or address; the
  result is the same. Pictures are numbered through the whole conversation.
- The marks of grounding, `<ref>name</ref><box>(x1,y1),(x2,y2)</box>`, are words of this language:
  they may stand in any message and in the answer. All other control tokens stay text.

Source: the tokenizer and `make_context` published with Qwen-VL-Chat.
"""

import re

from sightline.service.formats.chatml import ChatMlFormat, Dialect
from sightline.service.formats.contract import Tokenizer

DIALECT = Dialect(
    begin="<img>",
    filler="<imgpad>",
    end="</img>",
    label="Picture {number}: ",
    tail="\n",
    joins_header=False,
    marks=re.compile(r"(</?(?:ref|box|quad)>)"),
)


def qwen_vl_format(tokenizer: Tokenizer) -> ChatMlFormat:
    return ChatMlFormat(tokenizer, DIALECT)
