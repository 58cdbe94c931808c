"""`/tokenize` and `/detokenize`, in the shapes that vLLM's clients know."""

import pytest
from front import PICTURE, Front, chat

# Half of what it was when all of it was told on the loop.
MAX_HOLD_UP_S = 0.3


@pytest.mark.parametrize("path", ["/tokenize", "/v1/tokenize"])
def test_a_text_becomes_ids(front: Front, path: str) -> None:
    answer = front.post({"model": "sightline-fake", "prompt": "hi"}, path=path).json()
    assert answer["tokens"][2:] == [104, 105]
    assert answer == {
        "count": 4,
        "max_model_len": 4096,
        "tokens": answer["tokens"],
        "token_strs": None,
    }


def test_a_text_alone_has_no_control_tokens(front: Front) -> None:
    body = {"prompt": "<|user|>é", "add_special_tokens": False, "return_token_strs": True}
    answer = front.post(body, path="/tokenize").json()
    assert bytes(answer["tokens"]).decode() == "<|user|>é"
    assert answer["token_strs"] == [*"<|user|>", "\ufffd", "\ufffd"]


def test_an_empty_text_has_no_tokens(front: Front) -> None:
    body = {"prompt": "", "add_special_tokens": False}
    assert front.post(body, path="/tokenize").json()["tokens"] == []


def test_a_conversation_becomes_the_ids_of_its_prompt_images_included(front: Front) -> None:
    question = chat("hello", PICTURE)
    answer = front.post(question, path="/tokenize").json()
    front.post(question)
    assert answer["tokens"] == list(front.engine.requests[-1].prompt.token_ids)
    assert answer["count"] == len(answer["tokens"])


def test_a_conversation_gets_no_further_control_tokens_and_that_is_told(front: Front) -> None:
    plain = front.post(chat("hello"), path="/tokenize")
    without = chat("hello", add_special_tokens=False)
    assert front.post(without, path="/tokenize", x_sightline_strict="1").json() == plain.json()
    further = front.post(chat("hello", add_special_tokens=True), path="/tokenize")
    assert further.json() == plain.json()
    assert further.headers["x-sightline-warnings"] == "add_special_tokens=not-used"


@pytest.mark.parametrize("path", ["/detokenize", "/v1/detokenize"])
def test_ids_become_a_text_again(front: Front, path: str) -> None:
    ids = front.post({"prompt": "这是什么?"}, path="/tokenize").json()["tokens"]
    answer = front.post({"model": "sightline-fake", "tokens": ids}, path=path)
    assert answer.json() == {"prompt": "这是什么?"}


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("/tokenize", {}, "missing_required_parameter", "prompt"),
        ("/tokenize", {"prompt": 5}, "invalid_type", "prompt"),
        ("/tokenize", {"prompt": "x", "messages": []}, "invalid_value", "prompt"),
        ("/tokenize", {"messages": []}, "missing_required_parameter", "messages"),
        ("/tokenize", {"messages": 5}, "invalid_type", "messages"),
        ("/tokenize", {"messages": [{"role": "x"}]}, "invalid_value", "messages[0].role"),
        (
            "/tokenize",
            {"prompt": "x", "add_generation_prompt": False},
            "unsupported_parameter",
            "add_generation_prompt",
        ),
        (
            "/tokenize",
            {"prompt": "x", "continue_final_message": True},
            "unsupported_parameter",
            "continue_final_message",
        ),
        ("/tokenize", {"prompt": "x" * 2**21}, "context_length_exceeded", "prompt"),
        ("/detokenize", {}, "missing_required_parameter", "tokens"),
        ("/detokenize", {"tokens": "x"}, "invalid_type", "tokens"),
        ("/detokenize", {"tokens": [1.5]}, "invalid_type", "tokens[0]"),
        ("/detokenize", {"tokens": [-1]}, "invalid_value", "tokens"),
        ("/detokenize", {"tokens": [10**30]}, "invalid_value", "tokens"),
    ],
)
def test_what_cannot_be_is_refused_at_its_path(front: Front, path, body, code, param) -> None:
    answer = front.post(body, path=path)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
def test_an_unknown_model_is_404(front: Front, path: str) -> None:
    body = {"model": "gpt-4o", "prompt": "x", "tokens": [1]}
    assert front.post(body, path=path).status_code == 404


def test_unknown_fields_are_told(front: Front) -> None:
    answer = front.post({"tokens": [104], "foo": 1}, path="/detokenize")
    assert answer.headers["x-sightline-warnings"] == "foo=unknown-field"
    strict = front.post({"tokens": [104], "foo": 1}, path="/detokenize", x_sightline_strict="1")
    assert strict.status_code == 400


def test_more_than_a_million_tokens_are_told_and_the_loop_stays_free(front: Front) -> None:
    body = {"prompt": "😀" * 400_000, "add_special_tokens": False, "return_token_strs": True}

    def post() -> float:
        with front.watching_the_loop() as held_up_s:
            answer = front.post(body, path="/tokenize")
        told = answer.json()
        assert bytes(told["tokens"]).decode() == body["prompt"]
        assert len(told["token_strs"]) == told["count"] == 1_600_000
        return held_up_s()

    assert any(post() < MAX_HOLD_UP_S for _ in range(4))
