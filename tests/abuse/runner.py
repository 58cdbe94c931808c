"""Sends the rows, one after the other, and checks after each that nothing has happened."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.abuse import corpus, http_rows, image_rows, sweeps
from tests.abuse.own import OwnServer
from tests.abuse.rows import PICTURE, Builder, Row
from tests.abuse.traps import Traps
from tests.abuse.verdicts import canary_text, fault_of
from tests.abuse.wire import Answer, Target

MAX_STALL_S = 0.1
MAX_SHOWN = 40
NUM_MUTANTS = 300


@dataclass
class Tally:
    """The numbers of one group of attacks."""

    num_sent: int = 0
    num_refused: int = 0
    num_answered: int = 0
    num_server_errors: int = 0
    worst_stall_s: float = 0.0
    faults: list[str] = field(default_factory=list)


@dataclass
class Report:
    """All groups. `is_clean` when nothing that must never happen did."""

    groups: dict[str, Tally] = field(default_factory=dict)
    hits: list[str] = field(default_factory=list)
    has_stall_watch: bool = False
    descriptors: tuple[int | None, int | None] = (None, None)
    anonymous_mib: tuple[float | None, float | None] = (None, None)
    seconds: float = 0.0

    @property
    def num_sent(self) -> int:
        return sum(tally.num_sent for tally in self.groups.values())

    @property
    def faults(self) -> list[str]:
        found = [fault for tally in self.groups.values() for fault in tally.faults]
        return [*found, *(f"a forbidden address was reached: {hit}" for hit in self.hits)]

    @property
    def is_clean(self) -> bool:
        return not self.faults

    def lines(self) -> Iterator[str]:
        names = ("sent", "2xx", "4xx", "5xx", "faults", "stall ms")
        yield "group        " + "".join(f"{name:>9}" for name in names)
        for name, tally in self.groups.items():
            stall = f"{tally.worst_stall_s * 1000:.0f}" if self.has_stall_watch else "-"
            yield (
                f"{name:<13}{tally.num_sent:9}{tally.num_answered:9}{tally.num_refused:9}"
                f"{tally.num_server_errors:9}{len(tally.faults):9}{stall:>9}"
            )
        yield (
            f"{self.num_sent} requests in {self.seconds:.0f} s, forbidden addresses reached: "
            f"{len(self.hits)}, faults: {len(self.faults)}"
        )
        if self.descriptors[0] is not None:
            yield f"descriptors {self.descriptors[0]} -> {self.descriptors[1]}"
        if self.anonymous_mib[0] is not None and self.anonymous_mib[1] is not None:
            before, after = self.anonymous_mib
            yield f"anonymous memory {before:.0f} -> {after:.0f} MiB"
        yield from (f"  FAULT {fault}" for fault in self.faults[:MAX_SHOWN])
        if len(self.faults) > MAX_SHOWN:
            yield f"  and {len(self.faults) - MAX_SHOWN} more"


def all_groups(make: Builder, traps: Traps) -> dict[str, Iterable[Row]]:
    paths = tuple(sweeps.endpoints(make))
    return {
        "J bodies": corpus.bodies(make),
        "P parameters": corpus.parameters(make),
        "T tokens": corpus.tokens(make),
        "S tools": corpus.tools(make),
        "I images": image_rows.images(make),
        "U addresses": image_rows.addresses(make, traps),
        "H framing": http_rows.framing(make),
        "H methods": http_rows.methods(make, paths),
        "A keys": http_rows.keys(make, paths),
        "fields": sweeps.fields(make),
        "places": sweeps.nested(make),
        "mutants": sweeps.mutants(make, NUM_MUTANTS),
    }


@dataclass
class Runner:
    """Attacks `target`. With `own`, its event loop and resources are watched as well.

    Of each group every `step`-th row is sent; heavy rows only with step 1.
    """

    target: Target
    traps: Traps
    own: OwnServer | None = None
    step: int = 1

    def run(self, only: str = "") -> Report:
        began = time.monotonic()
        make = Builder(self.target)
        report = Report(has_stall_watch=self.own is not None)
        self._ask_canary(make)  # usage tells what came from a cache, so the first answer differs
        good = canary_text(self._ask_canary(make))
        assert good is not None, "a good request is not answered; is the model's name right?"
        before = self._resources()
        for name, rows in all_groups(make, self.traps).items():
            if only and not name.startswith(only):
                continue
            tally = report.groups[name] = Tally()
            for number, row in enumerate(rows):
                if number % self.step == 0 and not (row.is_heavy and self.step > 1):
                    self._attack(row, tally)
                    self._check(row, tally, make, good)
        report.hits = self.traps.hits
        after = self._resources()
        report.descriptors = (before[0], after[0])
        report.anonymous_mib = (before[1], after[1])
        report.seconds = time.monotonic() - began
        return report

    def _attack(self, row: Row, tally: Tally) -> None:
        answer = self.target.send(row.data)
        tally.num_sent += 1
        tally.num_answered += 200 <= answer.status < 300
        tally.num_refused += 400 <= answer.status < 500
        tally.num_server_errors += answer.status >= 500 and answer.status not in (501, 505)
        fault = fault_of(row, answer, self.target)
        if fault is not None:
            tally.faults.append(f"{row.id}: {fault} {answer.body[:160]!r}")

    def _check(self, row: Row, tally: Tally, make: Builder, good: object) -> None:
        if self.own is not None:
            stall_s = self.own.worst_stall_s()
            tally.worst_stall_s = max(tally.worst_stall_s, stall_s)
            if stall_s > MAX_STALL_S:
                tally.faults.append(f"{row.id}: the loop stood still for {stall_s * 1000:.0f} ms")
        answer = self._ask_canary(make)
        if canary_text(answer) != good:
            tally.faults.append(f"{row.id}: afterwards a good request got {answer.status}")

    def _ask_canary(self, make: Builder) -> Answer:
        body = {**make.image(PICTURE, "canary"), "temperature": 0, "seed": 1}
        return self.target.send(make.json("canary", body).data)

    def _resources(self) -> tuple[int | None, float | None]:
        if self.own is None:
            return None, None
        return self.own.num_descriptors(), self.own.anonymous_mib()
