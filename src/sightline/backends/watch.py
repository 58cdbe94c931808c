"""Is an engine slow, or does it hang? Judged from the silence between its reports."""

from collections import deque

_REMEMBERED_GAPS = 512
_FACTOR = 5.0


class Watch:
    """Collects silence second by second; every report ends it.

    An engine hangs when it has been silent, with work to do, for `hang_timeout_s` or for five
    times the 99th percentile of the gaps that it has shown while busy, whichever is more. Times
    are of `time.monotonic`.
    """

    def __init__(self, hang_timeout_s: float) -> None:
        self.silent_s = 0.0
        self._silent_busy_s = 0.0
        self._interval_s = 0.0
        self._hang_timeout_s = hang_timeout_s
        self._gaps: deque[float] = deque(maxlen=_REMEMBERED_GAPS)
        self._last_report: float | None = None

    def heard(self, now: float, *, is_busy: bool) -> None:
        """Note a report; `is_busy` says whether the engine had work before it.

        By the clock a gap may be longer than by the watcher's ticks: then nobody listened.
        """
        if self._last_report is not None and is_busy:
            gap_s = now - self._last_report
            if self._interval_s:
                gap_s = min(gap_s, self.silent_s + self._interval_s)
            self._gaps.append(gap_s)
        self._last_report = now
        self.silent_s = self._silent_busy_s = 0.0

    def tick(self, interval_s: float, *, is_busy: bool) -> None:
        """Note that one interval has passed.

        Time is counted in the watcher's own ticks, not by the clock: a front that was stopped
        for a minute has only failed to listen for a minute.
        """
        self._interval_s = interval_s
        self.silent_s += interval_s
        if is_busy:
            self._silent_busy_s += interval_s

    @property
    def limit_s(self) -> float:
        if not self._gaps:
            return self._hang_timeout_s
        p99 = sorted(self._gaps)[len(self._gaps) * 99 // 100]
        return max(self._hang_timeout_s, _FACTOR * p99)

    @property
    def is_hung(self) -> bool:
        return self._silent_busy_s >= self.limit_s
