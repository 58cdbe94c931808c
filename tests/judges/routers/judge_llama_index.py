"""llama-index OpenAILike"""

import pytest
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.llms.openai_like import OpenAILike

PACKAGE = "llama-index-llms-openai-like"


@pytest.fixture(params=[False, True], ids=["completions", "chat"])
def llm(request, server):
    return OpenAILike(
        model=server.model,
        api_base=server.v1,
        api_key=server.key,
        is_chat_model=request.param,
        context_window=2048,
        max_tokens=16,
        max_retries=0,
    )


def test_complete(llm):
    assert llm.complete("你好").text is not None


def test_complete_streamed(llm):
    assert list(llm.stream_complete("你好"))


def test_chat(llm):
    assert llm.chat([ChatMessage(role="user", content="你好")]).message.role == "assistant"


async def test_chat_streamed_async(llm):
    stream = await llm.astream_chat([ChatMessage(role="user", content="你好")])
    assert [part async for part in stream]


def test_a_picture(server, circle):
    llm = OpenAILike(model=server.model, api_base=server.v1, api_key=server.key, is_chat_model=True)
    blocks = [ImageBlock(image=circle, image_mimetype="image/png"), TextBlock(text="这是什么?")]
    assert llm.chat([ChatMessage(role="user", blocks=blocks)]).message.content
