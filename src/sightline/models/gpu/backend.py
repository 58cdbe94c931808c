"""What every way of paged attention on a GPU promises, so that they can be exchanged.

An `AttentionBackend` makes an `Attention` for one batch: called by every layer in turn, it puts
the rows' keys and values into their slots and lets the rows attend. All give the same result up
to rounding. Nothing in a call waits for the device, and with a batch whose tensors stay where
they are, a call can be recorded in a CUDA graph.
"""

from typing import Protocol

from sightline.models.attention import Attention
from sightline.models.kv_pool import KVPool
from sightline.models.paged_batch import PagedBatch


class AttentionBackend(Protocol):
    name: str

    def over(self, pool: KVPool, batch: PagedBatch) -> Attention:
        """Return the attention of one pass."""
        ...

    def withdraw(self) -> None:
        """Undo what making it changed for everybody; it is not used any more."""
        ...

    def graph_slots(self, num_slots: int) -> int:
        """Return the `max_slots` with which a graph for so many slots has to be recorded.

        Graphs of equal numbers are one; 0 says that the number does not matter.
        """
        ...
