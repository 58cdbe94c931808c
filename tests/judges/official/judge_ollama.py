"""ollama (Python)"""

import json

import ollama
import pytest

PACKAGE = "ollama"


@pytest.fixture
def client(server) -> ollama.Client:
    return ollama.Client(host=server.url, headers={"Authorization": f"Bearer {server.key}"})


def test_models_are_listed_and_shown(client, server):
    assert client.list().models
    shown = client.show(server.model)
    assert "vision" in shown.capabilities


def test_chat_about_a_picture(client, server, circle):
    answer = client.chat(
        model=server.model,
        messages=[{"role": "user", "content": "这是什么?", "images": [circle]}],
        options={"num_predict": 32, "temperature": 0},
    )
    assert answer.message.content
    assert answer.done
    assert answer.eval_count > 0


def test_chat_streamed(client, server):
    parts = list(
        client.chat(
            model=server.model,
            messages=[{"role": "user", "content": "你好"}],
            options={"num_predict": 16},
            stream=True,
        )
    )
    assert [part.done for part in parts].count(True) == 1
    assert parts[-1].done


def test_generate_with_a_picture(client, server, circle):
    answer = client.generate(
        model=server.model, prompt="这是什么?", images=[circle], options={"num_predict": 16}
    )
    assert answer.response


def test_a_schema_is_kept(client, server):
    schema = {
        "type": "object",
        "properties": {"count": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["count"],
    }
    answer = client.chat(
        model=server.model,
        messages=[{"role": "user", "content": "几个?"}],
        format=schema,
        options={"num_predict": 100},
    )
    assert 0 <= json.loads(answer.message.content)["count"] <= 9


def test_an_unknown_model_is_an_error(client):
    with pytest.raises(ollama.ResponseError) as refused:
        client.chat(model="llama", messages=[{"role": "user", "content": "x"}])
    assert refused.value.status_code == 404
