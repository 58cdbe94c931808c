"""From the results of `compare.py` to the tables of promises, in Markdown."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Report = dict[str, Any]
Figure = Callable[[Report], float | None]


def tokens_per_s(report: Report) -> float | None:
    return float(report["tokens_per_s"])


def requests_per_s(report: Report) -> float | None:
    return float(report["requests_per_s"])


def first_token_ms(report: Report) -> float | None:
    found: float | None = report["milliseconds"]["ttft"]["p50"]
    return found


@dataclass(frozen=True, slots=True)
class Promise:
    """Our figure over theirs; a bar from below, or from above where less is better."""

    what: str
    group: str
    work: str
    peer: str
    figure: Figure
    bar: float
    is_most: bool = False


PROMISES = (
    Promise("text tokens/s, C = 1", "vllm", "t1", "vllm", tokens_per_s, 1.0),
    Promise("text tokens/s, C = 8", "vllm", "t8", "vllm", tokens_per_s, 1.0),
    Promise("text tokens/s, C = 16", "vllm", "t16", "vllm", tokens_per_s, 1.0),
    Promise("distinct images/s, C = 1", "vllm", "d1", "vllm", requests_per_s, 1.2),
    Promise("distinct images/s, C = 8", "vllm", "d8", "vllm", requests_per_s, 1.2),
    Promise("repeated image, first token", "vllm", "s1", "vllm", first_token_ms, 0.6, is_most=True),
    Promise("text tokens/s, C = 8", "transformers", "t8", "transformers", tokens_per_s, 8.0),
    Promise("distinct images/s, C = 8", "transformers", "d8", "transformers", requests_per_s, 4.0),
    Promise("text tokens/s, C = 1", "transformers", "t1", "plain", tokens_per_s, 1.5),
    Promise("text tokens/s, C = 16", "transformers", "t16", "plain", tokens_per_s, 10.0),
)
# Like with like: bfloat16 of both, then what each computes best in here.
PAIRS = {
    "vllm": (("sightline-bf16", "vllm-bf16"), ("sightline-auto", "vllm-fp32"),
             ("sightline-auto", "vllm-bf16"), ("sightline-guessing", "vllm-bf16")),
    "transformers": (("sightline-bf16", "transformers"), ("sightline-auto", "transformers"),
                     ("sightline-guessing", "transformers")),
    "plain": (("sightline-bf16", "plain"), ("sightline-auto", "plain"),
              ("sightline-guessing", "plain")),
}  # fmt: skip


def tables(state: dict[str, Any]) -> str:
    """Return the promises, then every figure, then starts, memory and the physical limit."""
    parts = [
        f"Measured at commit {state['commit']} on {state['machine']['cpu']}, "
        f"{state['machine']['cores']} cores, {state['machine']['memory_gib']} GiB.",
        "\n".join(f"- {name}: {', '.join(found)}" for name, found in state["versions"].items()),
        _promises(state),
        _starts(state),
        _limit(state),
        _figures(state),
    ]
    if state["missing"]:
        parts.append(f"Not given, so not measured: {', '.join(state['missing'])}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def spread(values: list[float], digits: int = 2) -> str:
    """Return median and range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


def _promises(state: dict[str, Any]) -> str:
    lines = [
        "| what | ours | theirs | ours / theirs | rounds | bar | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for promise in PROMISES:
        for ours, theirs in PAIRS[promise.peer]:
            ratios = _ratios(state, promise, ours, theirs)
            if not ratios:
                continue
            middle = statistics.median(ratios)
            is_met = middle <= promise.bar if promise.is_most else middle >= promise.bar
            bar = f"{'at most' if promise.is_most else 'at least'} {promise.bar:g}"
            cells = [promise.what, ours, theirs, spread(ratios), str(len(ratios)), bar,
                     "yes" if is_met else "**no**"]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratios(state: dict[str, Any], promise: Promise, ours: str, theirs: str) -> list[float]:
    found = []
    for row in state["rounds"]:
        reports = row["reports"]
        if (row["group"], row["work"]) != (promise.group, promise.work):
            continue
        if ours not in reports or theirs not in reports:
            continue
        a, b = (promise.figure(reports[name]) for name in (ours, theirs))
        if a and b and not reports[ours]["is_void"] and not reports[theirs]["is_void"]:
            found.append(a / b)
    return found


def _figures(state: dict[str, Any]) -> str:
    lines = [
        "| checkpoint of | work | server | tokens/s | requests/s | first token ms | "
        "between tokens ms | prompt tokens | void |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys(
        (row["group"], row["work"], label) for row in state["rounds"] for label in row["reports"]
    )
    for group, work, label in sorted(keys):
        reports = [
            row["reports"][label]
            for row in state["rounds"]
            if (row["group"], row["work"]) == (group, work) and label in row["reports"]
        ]
        good = [report for report in reports if not report["is_void"]] or reports
        itl = [report["milliseconds"]["tpot"]["p50"] or 0.0 for report in good]
        cells = [
            group,
            work,
            label,
            spread([report["tokens_per_s"] for report in good], 1),
            spread([report["requests_per_s"] for report in good]),
            spread([first_token_ms(report) or 0.0 for report in good], 0),
            spread(itl, 1),
            f"{good[0]['prompt_tokens']:.0f}",
            str(sum(report["is_void"] for report in reports)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _starts(state: dict[str, Any]) -> str:
    lines = [
        "| checkpoint of | server | ready s | first answer s | memory (PSS) MB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {start['group']} | {s['label']} | {s['ready_s']:.1f} | {s['first_answer_s']:.1f} "
        f"| {s['pss_mb']:.0f} |"
        for start in state["starts"]
        for s in start["servers"]
    ]
    return "\n".join(lines)


def _limit(state: dict[str, Any]) -> str:
    """Compare a step with the time that streaming its weights takes, both of the same round."""
    lines = [
        "| decode at C = 1 | packed linears | GB/s | share of the bound |",
        "|---|---|---|---|",
    ]
    steps = {
        (row["round"], label): report["milliseconds"]["tpot"]["p50"]
        for row in state["rounds"]
        if row["group"] == "vllm" and row["work"] == "t1"
        for label, report in row["reports"].items()
    }
    for label in ("sightline-bf16", "sightline-auto", "vllm-bf16"):
        for kind in state["streams"][0]["kinds"] if state["streams"] else ():
            pairs = [
                (stream["kinds"][kind], steps[stream["round"], label])
                for stream in state["streams"]
                if steps.get((stream["round"], label))
            ]
            if pairs:
                rates = spread([found["gb_per_s"] for found, _ in pairs], 1)
                shares = spread([1e3 * found["seconds"] / step for found, step in pairs])
                lines.append(f"| {label} | {kind} | {rates} | {shares} |")
    return "\n".join(lines) if len(lines) > 2 else ""
