import http.server
import io
import json
import socket
import threading
from collections.abc import Iterator

import pytest
from PIL import Image

QUESTION = "这是什么?"


@pytest.fixture
def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def ask(sightline, fake_server):
    def run(*arguments: str, stdin: bytes = b"", **environ: str):
        environ = {
            "SIGHTLINE_URL": fake_server.url,
            "SIGHTLINE_API_KEY": fake_server.api_key,
        } | environ
        return sightline("ask", *arguments, stdin=stdin, **environ)

    return run


def about_a_picture(answer: str) -> str:
    """Take the answer of the fake engine apart; it repeats the question behind the picture."""
    picture, _, question = answer.removesuffix("\n").partition("] ")
    assert picture.startswith("[image ")
    return question


def test_a_picture_in_a_file_is_asked_about(ask, sightline, png):
    (sightline.folder / "cat.png").write_bytes(png)
    outcome = ask("cat.png", QUESTION)
    assert (outcome.status, outcome.err) == (0, "")
    assert about_a_picture(outcome.out) == QUESTION


def test_a_picture_comes_from_standard_input(ask, png):
    outcome = ask("-", QUESTION, stdin=png)
    assert outcome.status == 0
    assert about_a_picture(outcome.out) == QUESTION


def test_without_a_question_the_picture_is_named(ask, png):
    assert about_a_picture(ask("-", stdin=png).out) == "What is this?"
    assert about_a_picture(ask("--lang", "zh", "-", stdin=png).out) == "这是什么?"


def test_a_question_may_stand_before_the_picture(ask, sightline, png):
    (sightline.folder / "red.png").write_bytes(png)
    for question in (QUESTION, "what is this", "What is this? "):
        found = ask(question, "red.png")
        assert (found.status, about_a_picture(found.out)) == (0, question), found.err
    for name in ("no-picture", "my photo.png"):
        missing = ask(name, "red.png")
        assert (missing.status, missing.err) == (2, f"sightline: There is no file {name}.\n")


def test_a_question_needs_no_picture(ask):
    assert ask("hello there").out == "hello there\n"


def test_verbose_counts_image_tokens(ask, png):
    outcome = ask("-v", "-", QUESTION, stdin=png)
    assert "image tokens 18" in outcome.err
    assert "首 token" in ask("-v", "--lang", "zh", "-", QUESTION, stdin=png).err


def test_an_answer_cut_at_its_limit_says_so(ask):
    outcome = ask("--max-tokens", "6", "hello there")
    assert outcome.out == "hello\n"
    assert "length limit" in outcome.err


def test_a_missing_file_is_one_line_and_status_2(ask):
    outcome = ask("cat.png", QUESTION)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == "sightline: There is no file cat.png.\n"
    assert ask("--lang", "zh", "cat.png").err == "sightline: 找不到文件 cat.png。\n"


def test_an_empty_file_and_a_folder_are_refused_here(ask, sightline):
    (sightline.folder / "cat.png").write_bytes(b"")
    assert ask("cat.png", QUESTION).err == "sightline: cat.png is empty.\n"
    assert "Cannot read" in ask(str(sightline.folder), QUESTION).err


def test_what_the_server_refuses_is_one_line_and_status_1(ask):
    outcome = ask("-", QUESTION, stdin=b"not a picture")
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1
    assert "Accepted: JPEG, PNG, WebP, GIF, BMP" in outcome.err


def test_a_wrong_key_says_how_to_give_one(ask):
    outcome = ask("hello", SIGHTLINE_API_KEY="wrong")
    assert outcome.status == 1
    assert "--api-key" in outcome.err


def test_a_server_that_was_named_must_answer(ask):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    outcome = ask("hello", SIGHTLINE_URL=url)
    assert outcome.status == 1
    assert (
        outcome.err == f"sightline: No server answers at {url}. Start one with `sightline serve`.\n"
    )


@pytest.fixture
def foreign_server() -> Iterator[str]:
    """The address of a server of another make: it knows models and chat, and no readiness."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/v1/models":
                self.answer(json.dumps({"object": "list", "data": [{"id": "theirs"}]}).encode())
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            choice = {"delta": {"content": f"I am {asked['model']}."}, "finish_reason": "stop"}
            chunk = json.dumps({"model": asked["model"], "choices": [choice]})
            self.answer(f"data: {chunk}\n\ndata: [DONE]\n\n".encode())

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_server_that_was_named_is_asked_whatever_it_says_of_itself(ask, foreign_server):
    outcome = ask("hello", SIGHTLINE_URL=foreign_server)
    assert (outcome.status, outcome.out) == (0, "I am theirs.\n")


def test_a_server_that_was_named_gets_the_model_that_was_named(ask, foreign_server):
    assert ask("--model", "other", "hello", SIGHTLINE_URL=foreign_server).out == "I am other.\n"


def test_control_characters_of_an_answer_do_not_reach_the_terminal(ask):
    assert ask("a\x1b[31mb\x07c\nd\te").out == "a[31mbc\nd\te\n"


def test_without_a_server_a_model_is_started_for_the_command(sightline, png):
    outcome = sightline("ask", "--engine", "fake", "-", QUESTION, stdin=png)
    assert outcome.status == 0
    assert about_a_picture(outcome.out) == QUESTION
    assert "starting the model" in outcome.err
