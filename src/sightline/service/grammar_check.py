"""Compiles grammars before they are used, in a process that can be killed.

A schema comes from a stranger and its compiler is a large program, so what it does with a schema
is found out at a safe distance: two workers, two seconds, and no more memory than they need. What
was found is remembered, so a schema that is sent with every request costs this once.
"""

import asyncio
import contextlib
import hashlib
import json
import re
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sightline.core.children import import_path
from sightline.core.errors import InternalError, RequestError, shorten
from sightline.core.limits import GIB, Limits
from sightline.service.schemas import invalid, path_of, path_of_reference, too_complex

NUM_WORKERS = 2
START_TIMEOUT_S = 30.0
MAX_REMEMBERED = 4096
MAX_REPLY_BYTES = 1024 * 1024
_UNKNOWN_KEYS = re.compile(r'Unimplemented keys: \["([^"]{1,64})"')
_UNKNOWN_FORMAT = re.compile(r"Unknown format: (\S{1,64})")
_MISSING = re.compile(r"(?:Pointer|Anchor) '([^']{0,200})' does not exist")
# Patterns that mean something, though not to this compiler.
_UNENFORCEABLE = re.compile(r"look-?around|backreference", re.IGNORECASE)
_TOO_MUCH = re.compile(r"too (?:large|complex|many|big)|limit|fuel", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A grammar to be judged, the schema it was made of, and where that stands.

    Of a `lenient` one nothing will be enforced: it must only make sense.
    """

    grammar: str = field(repr=False)
    param: str
    schema: Mapping[str, Any] | bool | None = field(default=None, repr=False)
    lenient: bool = False


class GrammarCheck:
    """Judges grammars. Every method runs on the event loop; workers start when they are needed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._workers: list[_Worker] = []
        self._dying: list[_Worker] = []
        self._free = asyncio.Semaphore(NUM_WORKERS)
        self._complaints: OrderedDict[bytes, str | None] = OrderedDict()

    async def check(self, suspects: Sequence[Suspect]) -> None:
        """Raise `RequestError` (`invalid_schema`, `schema_too_complex`) for the first bad one."""
        unknown = [suspect for suspect in suspects if _key(suspect) not in self._complaints]
        if unknown:
            await self._judge(unknown)
        for suspect in suspects:
            key = _key(suspect)
            if key not in self._complaints:
                continue  # a few thousand others came meanwhile; the engine compiles it anyway
            self._complaints.move_to_end(key)
            complaint = self._complaints[key]
            if complaint is None:
                raise too_complex(
                    suspect.param,
                    f"compiling takes more than {self._limits.schema_timeout_s:g} s.",
                )
            if complaint and not (suspect.lenient and _UNENFORCEABLE.search(complaint)):
                raise _refusal(suspect, complaint)

    async def close(self) -> None:
        """Kill the workers; they are gone on return."""
        self._dying += self._workers
        self._workers = []
        for worker in self._dying:
            await worker.end()
        self._dying = []

    async def _judge(self, suspects: Sequence[Suspect], *, again: bool = False) -> None:
        """Find out about `suspects`; what takes too long, or kills two workers, is noted as None.

        One worker may have died of something else: `again` a new one is asked.
        """
        has_died = False
        async with self._free:
            worker = None if again else self._idle_worker()
            if worker is None:
                worker = await _Worker.start()
            try:
                complaints: Sequence[str | None] = await worker.ask(
                    [suspect.grammar for suspect in suspects], self._limits.schema_timeout_s
                )
                self._workers.append(worker)
            except (EOFError, OSError, ValueError) as error:
                complaints = [None] * len(suspects)
                has_died = not isinstance(error, TimeoutError)
            finally:
                if worker not in self._workers:
                    worker.kill()
                    self._dying = [other for other in self._dying if other.is_alive]
                    self._dying.append(worker)
        if has_died and not again:
            await self._judge(suspects, again=True)
            return
        if len(suspects) > 1 and None in complaints:
            for suspect in suspects:  # one of them is to blame
                await self._judge([suspect])
                if self._complaints.get(_key(suspect), "") is None:
                    break
            return
        for suspect, complaint in zip(suspects, complaints, strict=True):
            self._complaints[_key(suspect)] = complaint
        while len(self._complaints) > MAX_REMEMBERED:
            self._complaints.popitem(last=False)

    def _idle_worker(self) -> "_Worker | None":
        """Return a worker that waits for work, if one is left that nobody killed meanwhile."""
        while self._workers:
            worker = self._workers.pop()
            if worker.is_alive:
                return worker
            self._dying.append(worker)
        return None


class _Worker:
    """One `grammar_worker`. After any error it must be killed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> "_Worker":
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "sightline.service.grammar_worker", str(GIB)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=MAX_REPLY_BYTES,
                env={"PYTHONPATH": import_path()},
                process_group=0,
            )
        except OSError:
            raise InternalError from None
        worker = cls(process)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await worker._line()
        except BaseException as error:
            await worker.end()
            if isinstance(error, TimeoutError | EOFError):
                raise InternalError from None
            raise
        return worker

    async def ask(self, grammars: Sequence[str], timeout_s: float) -> list[str]:
        """Return the complaint about each grammar."""
        assert self._process.stdin is not None
        async with asyncio.timeout(timeout_s):
            self._process.stdin.write(json.dumps(grammars).encode() + b"\n")
            await self._process.stdin.drain()
            complaints: list[str] = json.loads(await self._line())
        if len(complaints) != len(grammars):
            raise ValueError("not an answer to the question")
        return complaints

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    def kill(self) -> None:
        """End the process now, whatever it is doing. `end` waits for it."""
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def end(self) -> None:
        assert self._process.stdin is not None
        self.kill()
        self._process.stdin.close()
        await self._process.wait()
        with contextlib.suppress(Exception):
            assert self._process.stdout is not None
            await self._process.stdout.read()

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise EOFError
        return line


def _key(suspect: Suspect) -> bytes:
    return hashlib.sha256(suspect.grammar.encode("utf-8", "surrogatepass")).digest()


def _refusal(suspect: Suspect, complaint: str) -> RequestError:
    """Say in our words what the compiler says in its own, which quote the schema."""
    param, schema = suspect.param, suspect.schema
    if unknown := _UNKNOWN_KEYS.search(complaint):
        return _unsupported(param, schema, unknown[1])
    if "oneOf" in complaint:
        return _unsupported(param, schema, "oneOf", "; anyOf is")
    if unknown := _UNKNOWN_FORMAT.search(complaint):
        return invalid(param, f"Format '{shorten(unknown[1])}' is not supported.")
    if "regex" in complaint:
        return invalid(param, f"A pattern at {path_of(schema, 'pattern')} cannot be enforced.")
    if "nsatisfiable" in complaint:
        return invalid(param, "No value satisfies this schema.")
    if "NoExtensionBias" in complaint:
        return invalid(param, "A 'multipleOf' cannot be enforced between its bounds.")
    if missing := _MISSING.search(complaint):
        reference = f"#{missing[1]}"
        place = path_of_reference(schema, reference)
        return invalid(param, f"Keyword '$ref' at {place}: '{shorten(reference)}' is not there.")
    if _TOO_MUCH.search(complaint):
        return too_complex(param, "this schema leads to too many cases.")
    return invalid(param, "The schema is invalid, or cannot be enforced.")


def _unsupported(param: str, schema: object, keyword: str, more: str = "") -> RequestError:
    place = path_of(schema, keyword)
    return invalid(param, f"Keyword '{shorten(keyword)}' at {place} is not supported{more}.")
