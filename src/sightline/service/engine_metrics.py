"""The engine's own numbers at the moment of a scrape, as Prometheus reads them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sightline.core.engine import EngineStats, Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueNumbers:
    """The books of the front: requests that hold a permit, requests that wait for one."""

    num_admitted: int = 0
    num_waiting: int = 0


class EngineCollector(Collector):
    """Yields metrics of the snapshot that `update` was given last."""

    def __init__(self, prefix: str, model_name: str) -> None:
        self._prefix = prefix
        self._model = model_name
        self._stats: EngineStats | None = None
        self._queue = QueueNumbers()

    def update(self, stats: EngineStats | None, queue: QueueNumbers) -> None:
        self._stats = stats
        self._queue = queue

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield self._gauge(
            "num_requests_admitted", "Requests that are worked on.", self._queue.num_admitted
        )
        stats = self._stats
        num_queued = 0 if stats is None else stats.num_waiting
        yield self._gauge(
            "num_requests_waiting",
            "Requests that wait, for admission or in the engine.",
            self._queue.num_waiting + num_queued,
        )
        if stats is None:
            return
        yield self._gauge("num_requests_running", "Requests in the batch.", stats.num_running)
        total = stats.kv_slots_total
        yield self._gauge(
            "kv_cache_usage_perc",
            "Used share of the KV memory, 0 to 1.",
            stats.kv_slots_used / total if total else 0.0,
        )
        yield self._gauge("kv_slots", "Token slots of the KV memory.", total)
        yield self._counter("engine_steps", "Steps of the engine process.", stats.num_steps)
        yield self._counter(
            "engine_restarts", "Engines that had to be replaced.", stats.num_restarts
        )
        yield self._gauge(
            "engine_resident_memory_bytes", "Resident memory of the engine.", stats.rss_bytes
        )

        yield from self._scheduler(stats)
        yield from self._times(stats)

    def _scheduler(self, stats: EngineStats) -> Iterator[Metric]:
        yield self._gauge(
            "kv_slots_cached",
            "Token slots that hold a past which may be used again.",
            stats.kv_slots_cached,
        )
        for name, what, value in (
            (
                "prefix_cache_queries",
                "Prompt tokens looked for in the cache.",
                stats.prefix_queries,
            ),
            ("prefix_cache_hits", "Prompt tokens found in the cache.", stats.prefix_hits),
            ("embedding_cache_queries", "Encoded images looked for.", stats.embedding_queries),
            ("embedding_cache_hits", "Encoded images found.", stats.embedding_hits),
            ("spec_decode_num_draft_tokens", "Tokens that were guessed.", stats.num_guessed),
            (
                "spec_decode_num_accepted_tokens",
                "Guessed tokens that were right.",
                stats.num_guessed_right,
            ),
            ("num_preemptions", "Answers that gave way to older ones.", stats.num_preemptions),
        ):
            yield self._counter(name, what, value)
        yield self._histogram("iteration_tokens", "Tokens of a step.", stats.batch_tokens)
        yield self._histogram("iteration_sequences", "Sequences of a step.", stats.batch_seqs)

    def _times(self, stats: EngineStats) -> Iterator[Metric]:
        for name, what, histogram in (
            ("engine_step_seconds", "One step.", stats.step_time_s),
            ("engine_idle_gap_seconds", "Between two steps, with work to do.", stats.idle_gap_s),
            ("engine_queue_seconds", "Waiting in the engine.", stats.queue_time_s),
            (
                "engine_time_to_first_token_seconds",
                "In the engine, up to the first token.",
                stats.time_to_first_token_s,
            ),
            (
                "engine_inter_token_seconds",
                "In the engine, between two tokens of an answer.",
                stats.inter_token_s,
            ),
        ):
            yield self._histogram(name, what, histogram)

    def _histogram(self, name: str, what: str, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(f"{self._prefix}:{name}", what, labels=("model_name",))
        bounds = (*(str(bound) for bound in histogram.bounds), "+Inf")
        cumulative = list(accumulate(histogram.counts)) or [0]
        buckets = list(zip(bounds, map(float, cumulative), strict=True))
        family.add_metric((self._model,), buckets=buckets, sum_value=histogram.total)
        return family

    def _gauge(self, name: str, what: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"{self._prefix}:{name}", what, labels=("model_name",))
        family.add_metric((self._model,), value)
        return family

    def _counter(self, name: str, what: str, value: float) -> Metric:
        family = CounterMetricFamily(f"{self._prefix}:{name}", what, labels=("model_name",))
        family.add_metric((self._model,), value)
        return family
