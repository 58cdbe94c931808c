"""Answers that obey a grammar, whatever the model would rather say."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import llguidance
import pytest
import torch

from sightline.core.engine_options import EngineOptions
from sightline.core.grammar_limits import GRAMMAR_LIMITS
from sightline.core.sampling import SamplingParams
from sightline.core.wire import Generate, StepOutput
from sightline.engine import grammar as grammar_module
from sightline.engine.build import assemble_engine, build_engine
from sightline.engine.grammar import Grammar, GrammarError, Grammars, GrammarTooComplex
from sightline.engine.loop import EngineLoop
from sightline.models.loading import load_model
from sightline.models.tokenizer_files import load_tokenizer
from sightline.models.tokenizers import TiktokenTokenizer

pytestmark = pytest.mark.engine

END, USER, OBSERVATION = 256, 263, 265
STOPS = (END, USER, OBSERVATION)
DIGIT = '%llguidance {}\nstart: "\\n" /[0-9]/ "!"'
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "n": {"type": "integer", "maximum": 99}},
    "required": ["colour", "n"],
    "additionalProperties": False,
}
MANY = {f"p{i}": {"type": "integer"} for i in range(1000)}
THOUSAND = f"""%llguidance {{}}
start: %json {json.dumps({"type": "object", "properties": MANY, "additionalProperties": False})}"""
JSON = f"%llguidance {{}}\nstart: %json {json.dumps(SCHEMA)}"


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> TiktokenTokenizer:
    return load_tokenizer(tiny_folder)


@pytest.fixture(scope="module")
def grammars(tokenizer: TiktokenTokenizer) -> Grammars:
    return Grammars(tokenizer, STOPS, num_threads=2)


def allowed(grammar: Grammar, answer: bytes | list[int]) -> set[int]:
    grammar.prepare(list(answer))
    return set(grammar.mask().nonzero()[:, 0].tolist())


def test_a_mask_has_what_may_come_next_and_nothing_else(grammars: Grammars) -> None:
    grammar = grammars.open(DIGIT)
    assert allowed(grammar, b"") == {10}
    assert allowed(grammar, b"\n") == {*b"0123456789"}
    assert allowed(grammar, b"\n7") == {*b"!"}


def test_a_finished_answer_may_only_end(grammars: Grammars) -> None:
    assert allowed(grammars.open(DIGIT), b"\n7!") == {*STOPS}


def test_control_tokens_are_no_text(grammars: Grammars) -> None:
    anything = grammars.open('%llguidance {}\nstart: /(.|\\n)*/ "~"')
    assert all(token_id < 256 for token_id in allowed(anything, b"<|user|>"))


def test_a_control_token_of_the_grammar_is_named_by_its_id(grammars: Grammars) -> None:
    grammar = grammars.open('%llguidance {}\nstart: "a" <[264]> "b"')
    assert allowed(grammar, b"a") == {264}
    assert allowed(grammar, [*b"a", 264]) == {*b"b"}


def test_asking_again_for_the_same_place_changes_nothing(grammars: Grammars) -> None:
    grammar = grammars.open(DIGIT)
    first = allowed(grammar, b"\n")
    assert allowed(grammar, b"\n") == first


def test_two_answers_of_one_grammar_do_not_meet(grammars: Grammars) -> None:
    one, other = grammars.open(DIGIT), grammars.open(DIGIT)
    allowed(one, b"\n7")
    assert allowed(other, b"") == {10}


def test_what_a_grammar_leaves_no_choice_about_is_guessed(grammars: Grammars) -> None:
    grammar = grammars.open(JSON)
    assert grammar.guess([], (), 20) == (*b"{",)  # then there may be white space
    assert grammar.guess(list(b'{"c'), (), 4) == (*b"olou",)
    assert grammar.guess(list(b'{"colour":"r'), (), 4) == (*b'ed"',)


def test_what_was_found_is_guessed_as_far_as_the_grammar_allows_it(grammars: Grammars) -> None:
    grammar = grammars.open(DIGIT)
    assert grammar.guess(list(b"\n"), tuple(b"7!7"), 5) == tuple(b"7!")
    assert grammar.guess(list(b"\n"), tuple(b"x"), 5) == ()


def test_every_guess_has_the_mask_that_it_would_have_had(grammars: Grammars) -> None:
    grammar, plain = grammars.open(JSON), grammars.open(JSON)
    said, guessed = list(b'{"colour":'), tuple(b'"red"')
    grammar.prepare(said, guessed)
    masks = [grammar.mask(n) for n in range(len(guessed) + 1)]
    for number, mask in enumerate(masks):
        assert set(mask.nonzero()[:, 0].tolist()) == allowed(plain, [*said, *guessed[:number]])
    # And nothing of it is left behind when something else is said.
    assert allowed(grammar, [*said, *b'"blu']) == {*b"e"}


def test_a_guess_that_breaks_the_grammar_breaks_nothing_else(grammars: Grammars) -> None:
    grammar = grammars.open(DIGIT)
    grammar.prepare(list(b"\n"), tuple(b"x!"))
    assert set(grammar.mask(0).nonzero()[:, 0].tolist()) == {*b"0123456789"}
    assert allowed(grammar, b"\n7") == {*b"!"}


def test_a_grammar_that_is_slow_to_look_ahead_in_is_not_guessed_for(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar = grammars.open(DIGIT)
    monkeypatch.setattr(grammar_module, "SLOW_GUESS_S", 0.0)
    assert grammar.guess([], (), 3) == (10,)
    assert grammar.guess([], (), 3) == ()


@pytest.mark.parametrize("broken", ["start: (", '%llguidance {}\nstart: %json {"type": 5}'])
def test_a_grammar_that_does_not_compile_is_an_error(grammars: Grammars, broken: str) -> None:
    with pytest.raises(GrammarError):
        grammars.open(broken)


def test_an_answer_that_breaks_the_grammar_is_an_error(grammars: Grammars) -> None:
    grammar = grammars.open(DIGIT)
    grammar.prepare(list(b"x"))
    with pytest.raises(GrammarError):
        grammar.mask()


def test_an_answer_that_leads_to_too_many_cases_is_told_apart(
    tokenizer: TiktokenTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = {**GRAMMAR_LIMITS, "max_items_in_row": 100}
    monkeypatch.setattr(grammar_module, "GRAMMAR_LIMITS", narrow)
    grammar = Grammars(tokenizer, STOPS, num_threads=1).open(THOUSAND)
    with pytest.raises(GrammarTooComplex):
        allowed(grammar, b"{")


def test_a_thousand_properties_are_not_too_many(grammars: Grammars) -> None:
    grammar = grammars.open(THOUSAND)
    assert allowed(grammar, b'{"p12": 3') >= {*b",}"}


def test_s10_the_memory_of_many_grammars_is_bounded(
    tokenizer: TiktokenTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar_module, "CACHE_BYTES", 2**20)
    grammars = Grammars(tokenizer, STOPS, num_threads=1)
    for number in range(50):
        grammars.open(f'%llguidance {{}}\nstart: "{number}"')
        assert grammars.num_bytes <= 2**20


class Bench:
    """A loop on its own thread; `answers` and `reasons` of what has ended."""

    def __init__(self, loop: EngineLoop) -> None:
        self.loop = loop
        self.answers: dict[str, list[int]] = {}
        self.reasons: dict[str, str] = {}
        self._news = threading.Condition()
        self._thread = threading.Thread(target=loop.run, args=(self._deliver,))

    def __enter__(self) -> "Bench":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.stop()
        self._thread.join(timeout=30)

    def ask(self, request_id: str, grammar: str | None, *, seed: int = 0) -> None:
        params = SamplingParams(
            max_tokens=60, seed=seed, stop_token_ids=STOPS, grammar=grammar, temperature=1.5
        )
        self.loop.submit(
            Generate(
                request_id=request_id, token_ids=(1, 2, 3), spans=(), cache_salt=b"", params=params
            )
        )

    def wait(self, *request_ids: str) -> list[str]:
        """Return the texts of these requests once they have ended."""
        with self._news:
            assert self._news.wait_for(lambda: self.reasons.keys() >= {*request_ids}, timeout=60)
        return [
            bytes(t for t in self.answers.get(name, []) if t < 256).decode("utf-8", "replace")
            for name in request_ids
        ]

    def _deliver(self, output: StepOutput) -> None:
        with self._news:
            for request_id, delta in output.deltas.items():
                self.answers.setdefault(request_id, []).extend(delta.token_ids)
                if delta.finish_reason is not None:
                    self.reasons[request_id] = delta.finish_reason
            self.reasons |= {failure.request_id: failure.code for failure in output.failed}
            self._news.notify_all()


@pytest.fixture(scope="module")
def bench(tiny_folder: Path) -> Iterator[Bench]:
    threads = torch.get_num_threads()
    loop = build_engine(EngineOptions(model=str(tiny_folder)), lambda done, total: None)
    with Bench(loop) as bench:
        yield bench
    torch.set_num_threads(threads)


def test_a_model_of_random_weights_writes_json_of_the_schema(bench: Bench) -> None:
    names = [f"json {seed}" for seed in range(8)]
    for seed, name in enumerate(names):
        bench.ask(name, JSON, seed=seed)
    for text, name in zip(bench.wait(*names), names, strict=True):
        if bench.reasons[name] == "stop":
            value = json.loads(text)
            assert value["colour"] in ("red", "blue")
            assert value["n"] <= 99
    assert "stop" in {bench.reasons[name] for name in names}


def test_an_answer_is_the_same_alone_and_among_others_with_and_without_grammar(
    bench: Bench,
) -> None:
    bench.ask("alone", JSON, seed=3)
    alone = bench.wait("alone")
    for number in range(4):
        bench.ask(f"free {number}", None, seed=number)
        bench.ask(f"digit {number}", DIGIT, seed=number)
    bench.ask("in company", JSON, seed=3)
    assert bench.wait("in company") == alone
    digits = bench.wait(*(f"digit {number}" for number in range(4)))
    assert all(text[0] == "\n" and text[1].isdigit() and text[2:] == "!" for text in digits)


def test_answers_with_a_grammar_are_the_same_without_guesses(
    bench: Bench, tiny_folder: Path
) -> None:
    names = [f"guessed {seed}" for seed in range(6)]
    unguessed = EngineOptions(model=str(tiny_folder), num_speculative_tokens=0)
    with Bench(build_engine(unguessed, lambda done, total: None)) as plain:
        for seed, name in enumerate(names):
            plain.ask(name, JSON, seed=seed)
        expected = plain.wait(*names)
    before = bench.loop.stats.num_guessed_right
    for seed, name in enumerate(names):
        bench.ask(name, JSON, seed=seed)
    assert bench.wait(*names) == expected
    assert bench.loop.stats.num_guessed_right > before + 20


def test_s09_a_broken_grammar_fails_alone_between_two_good_ones(bench: Bench) -> None:
    bench.ask("before", DIGIT)
    bench.ask("broken", "start: (")
    bench.ask("after", DIGIT)
    bench.wait("before", "broken", "after")
    assert bench.reasons["broken"] == "schema_too_complex"
    assert bench.reasons["before"] == bench.reasons["after"] == "stop"


def test_a_compiler_that_fails_by_itself_is_not_taken_for_a_schema_that_is_too_complex(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object, **__: object) -> object:
        raise TypeError("another version's arguments")

    monkeypatch.setattr(llguidance, "LLMatcher", failing)
    bench.ask("unlucky", '%llguidance {}\nstart: "not yet compiled"')
    bench.wait("unlucky")
    assert bench.reasons["unlucky"] == "internal_error"
    assert "another version's arguments" in caplog.text


def test_a_grammar_that_turns_out_too_complex_fails_alone_and_not_as_our_fault(
    bench: Bench,
) -> None:
    patterns = [{"type": "string", "pattern": f"^.*{i}.{{40}}$"} for i in range(300)]
    hostile = f"%llguidance {{}}\nstart: %json {json.dumps({'anyOf': patterns})}"
    bench.ask("hostile", hostile)
    bench.ask("beside", DIGIT)
    bench.wait("hostile", "beside")
    assert bench.reasons["hostile"] in ("schema_too_complex", "length")
    assert bench.reasons["beside"] == "stop"


def test_a_grammar_that_leads_to_a_dead_end_fails_alone_and_not_as_our_fault(bench: Bench) -> None:
    steps = {"type": "number", "multipleOf": 0.1, "minimum": 0.25, "maximum": 0.35}
    bench.ask("impossible", f"%llguidance {{}}\nstart: %json {json.dumps(steps)}")
    bench.ask("beside", DIGIT)
    bench.wait("impossible", "beside")
    assert bench.reasons["impossible"] == "invalid_schema"
    assert bench.reasons["beside"] == "stop"


class SlowGrammars:
    """Compiles when it is told to."""

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self.waiting: list[Callable[[], None]] = []
        self.asked = threading.Event()

    def compile(self, grammar: str, then: Callable[[Grammar | Exception], None]) -> None:
        self.waiting.append(lambda: then(self._grammars.open(grammar)))
        self.asked.set()


@pytest.fixture
def slow(tiny_folder: Path, grammars: Grammars) -> Iterator[tuple[Bench, SlowGrammars]]:
    slow = SlowGrammars(grammars)
    loop = assemble_engine(
        EngineOptions(model=str(tiny_folder)),
        load_model(tiny_folder, device="cpu"),
        num_tokens=270,
        grammars=slow,  # type: ignore[arg-type]
    )
    with Bench(loop) as bench:
        yield bench, slow


def test_nobody_waits_for_a_grammar_that_is_being_compiled(
    slow: tuple[Bench, SlowGrammars],
) -> None:
    bench, compiler = slow
    bench.ask("slow", DIGIT)
    assert compiler.asked.wait(30)
    bench.ask("free", None)
    bench.wait("free")
    assert "slow" not in bench.reasons
    compiler.waiting[0]()
    bench.wait("slow")


def test_a_request_that_is_aborted_while_it_compiles_never_starts(
    slow: tuple[Bench, SlowGrammars],
) -> None:
    bench, compiler = slow
    bench.ask("gone", DIGIT)
    assert compiler.asked.wait(30)
    bench.loop.abort("gone")
    bench.ask("free", None)
    bench.wait("free")
    compiler.waiting[0]()
    bench.ask("last", None)
    bench.wait("last")
    assert "gone" not in bench.answers
