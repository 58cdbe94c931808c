"""Who has which block of the KV cache, and which blocks hold something worth keeping.

A block is in exactly one state:

    used      some running sequences hold it (several, when they share a prefix)
    cached    nobody holds it, but its content is known by a key: it can be found again
    free      nobody holds it and nobody knows what is in it

    free + cached + used = total, always.

Free blocks are given out first, then cached ones, least recently used first. No torch here.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from itertools import islice

from sightline.engine.block_keys import BlockContent

# Of the blocks behind the same one, so many of the newest are asked whether they begin alike.
MAX_SIBLINGS = 8


class BlockPool:
    """Books of `num_blocks` blocks, by number. Not thread-safe."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._holders = [0] * num_blocks
        self._keys: list[bytes | None] = [None] * num_blocks
        self._by_key: dict[bytes, int] = {}
        # The known blocks behind each key, oldest first, and what they hold.
        self._behind: dict[bytes, dict[int, BlockContent]] = {}
        self._parents: list[bytes] = [b""] * num_blocks
        self._free = deque(range(num_blocks))
        self._cached: OrderedDict[int, None] = OrderedDict()  # least recently used first

    @property
    def num_available(self) -> int:
        """Blocks that can be given out: free and cached ones."""
        return len(self._free) + len(self._cached)

    @property
    def num_cached(self) -> int:
        return len(self._cached)

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_available

    def match(self, keys: Iterable[bytes]) -> list[int]:
        """Return the blocks of the longest run of `keys`, from the first, that are all known.

        They are not held yet: `hold` them before anything else is allocated.
        """
        found: list[int] = []
        for key in keys:
            block = self._by_key.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def match_part(self, parent: bytes, content: BlockContent) -> tuple[int, int]:
        """Return a known block behind `parent`, and how many slots of it begin like `content`.

        The longest match of the newest blocks; (-1, 0) if none begins like that. `hold` the block
        until its slots have been copied.
        """
        best, longest = -1, 0
        siblings = self._behind.get(parent, {})
        for block, other in islice(reversed(siblings.items()), MAX_SIBLINGS):
            length = content.count_equal(other)
            if length > longest:
                best, longest = block, length
        return best, longest

    def key_of(self, block: int) -> bytes:
        """Return what a known block is known as."""
        key = self._keys[block]
        assert key is not None
        return key

    def count_held(self, blocks: Iterable[int]) -> int:
        """Return how many of `blocks` somebody holds already, so that holding them is free."""
        return sum(self._holders[block] > 0 for block in blocks)

    def hold(self, blocks: Iterable[int]) -> None:
        """Become a further holder of known blocks."""
        for block in blocks:
            if self._holders[block] == 0:
                del self._cached[block]
            self._holders[block] += 1

    def allocate(self, count: int) -> list[int]:
        """Return `count` blocks of unknown content, held once; there must be as many available."""
        assert count <= self.num_available, "ask num_available first"
        taken = []
        for _ in range(count):
            if self._free:
                block = self._free.popleft()
            else:
                block, _ = self._cached.popitem(last=False)
                self._forget(block)
            self._holders[block] = 1
            taken.append(block)
        return taken

    def publish(self, block: int, key: bytes, parent: bytes, content: BlockContent) -> None:
        """Make a held block with computed `content` behind `parent` known as `key`.

        If another block has the same content already, that one stays the known one.
        """
        assert self._holders[block] > 0, "only who holds a block knows what is in it"
        if self._keys[block] is None and key not in self._by_key:
            self._keys[block] = key
            self._by_key[key] = block
            self._parents[block] = parent
            self._behind.setdefault(parent, {})[block] = content

    def unpublish(self, blocks: Iterable[int]) -> None:
        """Let nobody find these blocks any more: what is in them is not to be trusted."""
        for block in blocks:
            self._forget(block)
            if block in self._cached:
                del self._cached[block]
                self._free.append(block)

    def release(self, blocks: Sequence[int]) -> None:
        """Give back the blocks of one sequence, in its order.

        The last ones are evicted first: a beginning is shared by more prompts than an end.
        """
        for block in reversed(blocks):
            assert self._holders[block] > 0, "a block is given back more often than it was held"
            self._holders[block] -= 1
            if self._holders[block] == 0:
                if self._keys[block] is None:
                    self._free.append(block)
                else:
                    self._cached[block] = None

    def drop_cached(self) -> None:
        """Forget everything that nobody holds."""
        for block in self._cached:
            self._forget(block)
            self._free.append(block)
        self._cached.clear()

    def check_integrity(self, held: Iterable[Sequence[int]]) -> None:
        """Raise AssertionError unless the books agree with `held`, the blocks of each holder."""
        holders = [0] * self.num_blocks
        for blocks in held:
            for block in blocks:
                holders[block] += 1
        assert holders == self._holders, "the holders of some block are not those that are known"
        used = {block for block, count in enumerate(holders) if count}
        free, cached = set(self._free), set(self._cached)
        assert len(free) == len(self._free), "a block is free twice"
        assert not (used & free | used & cached | free & cached), "a block in two states"
        assert len(used) + len(free) + len(cached) == self.num_blocks, "a block is lost"
        assert all(self._keys[block] is None for block in free), "a free block has a key"
        assert all(self._keys[block] is not None for block in cached), "a cached one has none"
        known = {key: block for block, key in enumerate(self._keys) if key is not None}
        assert known == self._by_key, "keys and blocks disagree"
        siblings = [block for blocks in self._behind.values() for block in blocks]
        assert sorted(siblings) == sorted(known.values()), "a block is behind none, or two"

    def _forget(self, block: int) -> None:
        key = self._keys[block]
        if key is not None:
            del self._by_key[key]
            self._keys[block] = None
            siblings = self._behind[self._parents[block]]
            del siblings[block]
            if not siblings:
                del self._behind[self._parents[block]]
