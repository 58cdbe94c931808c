"""Recorded decode steps without a GPU: a recording that is played by doing the work again."""

from collections.abc import Callable

from sightline.core.engine_options import EngineOptions
from sightline.engine.decode_graphs import DecodeGraphs, Outputs
from sightline.models.gpu.gather_attention import GatherBackend
from sightline.models.kv_pool import KVPool
from sightline.models.loading import LoadedModel
from sightline.models.paged_model import PagedModel

Record = Callable[[EngineOptions, LoadedModel, KVPool, int], DecodeGraphs]


class Tape:
    """Fixed outputs, as a graph has: playing writes the new results over the old ones."""

    def __init__(self, *, broken: bool = False) -> None:
        self.num_recorded = self.num_played = 0
        self._broken = broken

    def record(self, work: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        if self._broken:
            raise RuntimeError("this device records nothing")
        self.num_recorded += 1
        outputs = work()

        def play() -> None:
            self.num_played += 1
            for fixed, new in zip(outputs, work(), strict=True):
                fixed.copy_(new)

        return play, outputs


def recording(loaded: LoadedModel, tape: Tape) -> Record:
    """Let `loaded` compute as on a GPU; return what stands in for `build.record_decodes` then."""
    model = loaded.model
    assert isinstance(model, PagedModel)
    model.attention = attention = GatherBackend()

    def record(
        options: EngineOptions, loaded: LoadedModel, pool: KVPool, max_slots: int
    ) -> DecodeGraphs:
        # The scheduler gives out one block less than a GPU's pool has; here it is one more.
        own = model.allocate_pool(pool.num_blocks + 1, pool.block_size)
        pool.keys, pool.values = own.keys, own.values
        graphs = DecodeGraphs(
            model,
            pool,
            attention,
            tape,
            max_seqs=min(6, options.max_num_seqs),
            max_slots=max_slots,
            nobodys_block=pool.num_blocks - 1,
        )
        graphs.record_all()
        assert graphs.is_right()
        return graphs

    return record
