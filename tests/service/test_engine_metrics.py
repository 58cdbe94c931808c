"""The engine's numbers, as a scrape shows them."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sightline.core.engine import EngineStats, Histogram
from sightline.service.engine_metrics import EngineCollector, QueueNumbers


def scraped(stats: EngineStats) -> dict[tuple[str, str], float]:
    registry = CollectorRegistry()
    collector = EngineCollector("sightline", "m")
    registry.register(collector)
    collector.update(stats, QueueNumbers())
    return {
        (sample.name.removeprefix("sightline:"), sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_what_the_engine_counted_is_shown() -> None:
    found = scraped(
        EngineStats(
            prefix_queries=100,
            prefix_hits=48,
            embedding_hits=2,
            num_preemptions=3,
            kv_slots_cached=7,
        )
    )
    assert found["prefix_cache_queries_total", ""] == 100
    assert found["prefix_cache_hits_total", ""] == 48
    assert found["embedding_cache_hits_total", ""] == 2
    assert found["num_preemptions_total", ""] == 3
    assert found["kv_slots_cached", ""] == 7


def test_buckets_add_up_as_prometheus_wants_them() -> None:
    steps = Histogram(bounds=(0.1, 1.0), counts=(3, 2, 1), total=4.5)
    found = scraped(EngineStats(step_time_s=steps))
    assert [found["engine_step_seconds_bucket", le] for le in ("0.1", "1.0", "+Inf")] == [3, 5, 6]
    assert found["engine_step_seconds_sum", ""] == 4.5
    assert found["engine_step_seconds_count", ""] == 6


def test_an_engine_that_has_done_nothing_has_empty_histograms() -> None:
    assert scraped(EngineStats())["engine_idle_gap_seconds_bucket", "+Inf"] == 0
