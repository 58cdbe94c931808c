"""What the engine counts while it works, for whoever looks at it from outside. No torch here."""

from bisect import bisect_left
from collections.abc import Sequence

from sightline.core.engine import EngineStats, FinishReason, Histogram
from sightline.engine.scheduler import Scheduler

TIMES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SHORT_TIMES = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Tally:
    """A histogram that grows."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(float(bound) for bound in bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def snapshot(self) -> Histogram:
        return Histogram(bounds=self._bounds, counts=tuple(self._counts), total=self._total)


class Meter:
    """Written by the loop's thread, one number at a time."""

    def __init__(self) -> None:
        self.num_steps = 0
        self.num_prompt_tokens = 0
        self.num_output_tokens = 0
        self.num_guessed = 0
        self.num_guessed_right = 0
        self.num_stopped = 0
        self.num_cut = 0
        self.num_aborted = 0
        self.num_failed = 0
        self.step_time_s = Tally(TIMES)
        self.idle_gap_s = Tally(SHORT_TIMES)
        self.batch_seqs = Tally(SIZES)
        self.batch_tokens = Tally(SIZES)
        self.queue_time_s = Tally(TIMES)
        self.time_to_first_token_s = Tally(TIMES)
        self.inter_token_s = Tally(TIMES)

    def count_end(self, reason: FinishReason) -> None:
        if reason == "stop":
            self.num_stopped += 1
        else:
            self.num_cut += 1

    def stats(self, scheduler: Scheduler) -> EngineStats:
        pool, embeddings = scheduler.pool, scheduler.embeddings
        return EngineStats(
            num_running=scheduler.num_running,
            num_waiting=scheduler.num_waiting,
            num_steps=self.num_steps,
            kv_slots_used=scheduler.num_slots_used,
            kv_slots_cached=pool.num_cached * scheduler.block_size,
            kv_slots_total=scheduler.num_slots,
            embedding_bytes_used=embeddings.size_bytes,
            embedding_bytes_total=embeddings.max_bytes,
            num_embedding_leases=embeddings.num_leases,
            prefix_queries=scheduler.num_prefix_queries,
            prefix_hits=scheduler.num_prefix_hits,
            embedding_queries=embeddings.num_queries,
            embedding_hits=embeddings.num_hits,
            num_preemptions=scheduler.num_preemptions,
            num_prompt_tokens=self.num_prompt_tokens,
            num_output_tokens=self.num_output_tokens,
            num_guessed=self.num_guessed,
            num_guessed_right=self.num_guessed_right,
            num_stopped=self.num_stopped,
            num_cut=self.num_cut,
            num_aborted=self.num_aborted,
            num_failed=self.num_failed,
            step_time_s=self.step_time_s.snapshot(),
            idle_gap_s=self.idle_gap_s.snapshot(),
            batch_seqs=self.batch_seqs.snapshot(),
            batch_tokens=self.batch_tokens.snapshot(),
            queue_time_s=self.queue_time_s.snapshot(),
            time_to_first_token_s=self.time_to_first_token_s.snapshot(),
            inter_token_s=self.inter_token_s.snapshot(),
        )
