"""What the server counts and times, for Prometheus. Names follow vLLM's, so dashboards carry over.

Numbers of requests are counted here as they happen; numbers of the engine come from its own
snapshot at each scrape (`engine_metrics`). Nothing here ever holds content, and no label is chosen
by a client: keys are named by the operator, codes and routes by the code.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from sightline.core.engine import EngineStats
from sightline.service.engine_metrics import EngineCollector, QueueNumbers

PREFIX = "sightline"
# Seconds, from a cache hit to a client's patience.
SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


class Metrics:
    """All counters of one server. Every method may be called from the event loop at any rate."""

    def __init__(self, model_name: str = "") -> None:
        self._registry = CollectorRegistry()
        self._model = model_name
        self._engine = EngineCollector(PREFIX, model_name)
        self._registry.register(self._engine)
        ProcessCollector(registry=self._registry)

        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens, images included.")
        self.generation_tokens = self._counter("generation_tokens", "Tokens generated.")
        self.cached_tokens = self._counter(
            "prompt_tokens_cached", "Prompt tokens that were found in the prefix cache."
        )
        self.image_tokens = self._counter("image_tokens", "Prompt tokens that were images.")
        self.images = self._counter("images", "Images of requests that reached the engine.")
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds", "From the request to its first token.", LONG
        )
        self.inter_token_latency = self._histogram(
            "inter_token_latency_seconds", "Between tokens that came one after the other.", SHORT
        )
        self.e2e_latency = self._histogram(
            "e2e_request_latency_seconds", "From the request to the end of its answer.", LONG
        )
        self.queue_time = self._histogram(
            "request_queue_time_seconds", "Waiting for admission and for the engine.", LONG
        )
        self.prefill_time = self._histogram(
            "request_prefill_time_seconds", "Computing the prompt.", LONG
        )
        self.decode_time = self._histogram(
            "request_decode_time_seconds", "From the first token to the last.", LONG
        )
        self.image_encode = self._histogram(
            "image_encode_seconds", "In the vision tower, per request with images.", LONG
        )
        self.media_time = self._histogram(
            "request_media_time_seconds", "Fetching and decoding all images of a request.", LONG
        )
        self.request_prompt_tokens = self._histogram(
            "request_prompt_tokens", "Prompt tokens of a request.", TOKENS
        )
        self.request_generation_tokens = self._histogram(
            "request_generation_tokens", "Tokens of an answer.", TOKENS
        )
        self._fetch = self._histogram("image_fetch_seconds", "Downloading one image.", LONG)
        self._fetch_bytes = self._counter("image_fetch_bytes", "Bytes of downloaded images.")
        self._decode = self._histogram("image_decode_seconds", "Decoding one image.", LONG)
        self._lookups = self._counter("mm_cache_queries", "Images looked for among decoded ones.")
        self._hits = self._counter("mm_cache_hits", "Images found among decoded ones.")

        self._finished = self._counters(
            "request_success", "Answers by how they ended.", "finished_reason"
        )
        self._responses = self._counters(
            "http_responses", "HTTP answers by status and error code.", "status", "code"
        )
        self._key_requests = self._counters("key_requests", "Requests of a key.", "key")
        self._key_prompt = self._counters("key_prompt_tokens", "Prompt tokens of a key.", "key")
        self._key_generated = self._counters(
            "key_generation_tokens", "Tokens generated for a key.", "key"
        )
        self._key_images = self._counters("key_images", "Images of a key.", "key")

    def finished(self, reason: str) -> None:
        """Count the end of an answer; `reason` is the finish reason, `abort` or `error`."""
        self._finished.labels(self._model, reason).inc()

    def responded(self, status: int, code: str) -> None:
        """Count an HTTP answer; `code` is the error's, empty for a good answer."""
        self._responses.labels(self._model, str(status), code).inc()

    def fetched(self, seconds: float, num_bytes: int) -> None:
        self._fetch.observe(seconds)
        self._fetch_bytes.inc(num_bytes)

    def decoded(self, seconds: float) -> None:
        self._decode.observe(seconds)

    def looked_up(self, *, hit: bool) -> None:
        self._lookups.inc()
        if hit:
            self._hits.inc()

    def used_by(
        self,
        key: str,
        *,
        requests: int = 0,
        prompt_tokens: int = 0,
        generated_tokens: int = 0,
        images: int = 0,
    ) -> None:
        """Count what the key named `key` has used; an empty name is nobody."""
        if not key:
            return
        for counter, amount in (
            (self._key_requests, requests),
            (self._key_prompt, prompt_tokens),
            (self._key_generated, generated_tokens),
            (self._key_images, images),
        ):
            if amount:
                counter.labels(self._model, key).inc(amount)

    def render(
        self, accept: str, stats: EngineStats | None, queue: QueueNumbers
    ) -> tuple[bytes, str]:
        """Return the page and its media type, in the format that `accept` asks for.

        `stats` None: the engine did not say; its numbers are left out.
        """
        self._engine.update(stats, queue)
        encode, media_type = choose_encoder(accept)
        page: bytes = encode(self._registry)
        return page, media_type

    def _counter(self, name: str, what: str) -> Counter:
        return self._counters(name, what).labels(self._model)

    def _counters(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}:{name}", what, ("model_name", *labels), registry=self._registry)

    def _histogram(self, name: str, what: str, buckets: Sequence[float]) -> Histogram:
        histogram = Histogram(
            f"{PREFIX}:{name}", what, ("model_name",), registry=self._registry, buckets=buckets
        )
        return histogram.labels(self._model)
