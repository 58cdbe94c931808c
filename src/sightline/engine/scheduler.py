"""Who is computed next. No torch here: decisions are tested without a model.

Requests wait in order of arrival, and nobody overtakes the head of the line. A request is
admitted when there is a place and blocks for all its known tokens; what its prompt shares with
blocks in the cache is not computed again: whole blocks are held in common, and of the block in
which it parts from another, the slots before are copied. Each step takes every prefilled sequence
one token further and spends what is left of the token budget on prompts, oldest first. Images are
encoded when the next chunk first needs them.

When a growing answer finds no block, the youngest sequence gives up its own and waits again; what
it has said stays said and is computed again with the prompt. A sequence that this happened to
three times is admitted only together with all the blocks it can ever need, and left alone then.
So the oldest always gets on, and everything ends: a request that does not fit the pool when it is
alone is refused before it comes here.

A plan may be made while the step before is still being computed: its tokens are then promised,
not known. `settle` says that the step has ended.
"""

from collections import deque
from collections.abc import Callable
from itertools import takewhile

from sightline.core.prompt import ImageSpan
from sightline.engine.block_keys import block_content, block_key, extend_keys, root_key
from sightline.engine.block_pool import BlockPool
from sightline.engine.embedding_cache import EmbeddingCache
from sightline.engine.guesses import Guesses
from sightline.engine.plan import Chunk, NeededImage, Plan
from sightline.engine.sequence import Sequence

MAX_PREEMPTIONS = 3
# With so many rows the weights are still what a step waits for; guesses stay below that.
CHEAP_ROWS = 16


class Scheduler:
    """Keeps the waiting line, the running sequences, and the books of blocks and embeddings.

    `row_bytes` is what one row of an image's embeddings takes on the device. `kv_variant` is the
    model's: prompts for which it differs share no blocks. At most `num_guesses` tokens of an answer
    are guessed at once; not for plans that are made while the step before is being computed, since
    a guess needs to know the newest token. Not thread-safe.
    """

    def __init__(
        self,
        *,
        num_blocks: int,
        block_size: int,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        embedding_cache_bytes: int = 0,
        row_bytes: int = 1,
        prefix_caching: bool = True,
        kv_variant: Callable[[int], int] = lambda num_prompt: 0,
        num_guesses: int = 0,
    ) -> None:
        self.pool = BlockPool(num_blocks)
        self.embeddings = EmbeddingCache(embedding_cache_bytes)
        self.block_size = block_size
        self.num_preemptions = 0
        self.num_prefix_hits = 0  # tokens
        self.num_prefix_queries = 0  # tokens
        self._max_running = min(max_num_seqs, max_num_batched_tokens)
        self._budget = max_num_batched_tokens
        self._row_bytes = row_bytes
        self._prefix_caching = prefix_caching
        self._kv_variant = kv_variant
        self._num_guesses = num_guesses
        self._waiting: deque[Sequence] = deque()
        self._running: dict[str, Sequence] = {}  # in order of admission
        # Keys of blocks that running sequences are about to fill: whoever needs the same waits.
        self._claims: dict[bytes, Sequence] = {}

    @property
    def running(self) -> tuple[str, ...]:
        """The ids of the running sequences, in order of admission."""
        return tuple(self._running)

    @property
    def num_slots(self) -> int:
        return self.pool.num_blocks * self.block_size

    @property
    def num_slots_used(self) -> int:
        return self.pool.num_used * self.block_size

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    def _extend_keys(self, sequence: Sequence, num_blocks: int) -> None:
        variant = self._kv_variant(len(sequence.prompt))
        extend_keys(sequence, self.block_size, num_blocks, variant)

    def _parent_key(self, sequence: Sequence, number: int) -> bytes:
        """Return the key of what block `number` follows; it must be known."""
        if number:
            return sequence.block_keys[number - 1]
        return root_key(sequence.cache_salt, self._kv_variant(len(sequence.prompt)))

    def _find_part(self, sequence: Sequence, number: int) -> tuple[int, int]:
        """Return a block that begins like block `number`, and for how many slots.

        Never all of them, since a whole block has a key; and at least one token is left to compute.
        """
        start = number * self.block_size
        end = min(start + self.block_size, sequence.num_tokens) - 1
        if not self._prefix_caching or end <= start:
            return -1, 0
        parent = self._parent_key(sequence, number)
        return self.pool.match_part(parent, block_content(sequence, start, end))

    def fits(self, sequence: Sequence) -> bool:
        """Say whether `sequence` can be computed to its end when it is alone."""
        largest = max((span.length for span in sequence.images), default=0)
        return (
            self._blocks_for(sequence.max_slots) <= self.pool.num_blocks
            and largest * self._row_bytes <= self.embeddings.max_bytes
        )

    def add(self, sequence: Sequence) -> None:
        """Put `sequence` at the end of the line."""
        assert self.fits(sequence), "refused before it came here"
        self._waiting.append(sequence)

    def plan(self) -> Plan:
        """Decide the next step; what is in it counts as computed from now on."""
        return _Step(self).decide()

    def settle(self, chunk: Chunk, num_right: int = 0) -> None:
        """Note that `chunk` has been computed and its token, if it promised one, is known.

        Of its guesses the first `num_right` were right; the slots of the others are free again.
        """
        sequence = chunk.sequence
        if sequence.generation != chunk.generation:
            return  # its blocks are no longer its own
        if chunk.copied_from is not None:
            self._return_copied(sequence)
        end = chunk.end
        if chunk.guessed:
            end += num_right - len(chunk.guessed)
            sequence.num_computed = end
            assert sequence.guesses is not None
            sequence.guesses.learn(len(chunk.guessed), num_right, len(sequence.answer))
        sequence.num_filled = end
        num_full = end // self.block_size
        if self._prefix_caching and num_full > sequence.num_settled:
            self._publish(sequence, num_full)
        if sequence.leases:
            self._release_passed(chunk)

    def _publish(self, sequence: Sequence, num_full: int) -> None:
        """Let others find the first `num_full` blocks."""
        self._extend_keys(sequence, num_full)
        for number in range(sequence.num_settled, num_full):
            key = sequence.block_keys[number]
            self._publish_block(sequence, number, key, (number + 1) * self.block_size)
            if self._claims.get(key) is sequence:
                del self._claims[key]
        sequence.num_settled = num_full

    def _publish_end(self, sequence: Sequence) -> None:
        """Let others find how far the last block of an ended sequence was filled."""
        number = sequence.num_settled
        start, end = number * self.block_size, sequence.num_filled
        if self._prefix_caching and start < end:
            parent, token_ids = self._parent_key(sequence, number), sequence.tokens(start, end)
            key = block_key(parent, token_ids, sequence.images, start, end)
            self._publish_block(sequence, number, key, end)

    def _publish_block(self, sequence: Sequence, number: int, key: bytes, end: int) -> None:
        """Publish block `number`, which is filled up to slot `end`."""
        content = block_content(sequence, number * self.block_size, end)
        parent = self._parent_key(sequence, number)
        self.pool.publish(sequence.blocks[number], key, parent, content)

    def remove(self, request_id: str, *, is_damaged: bool = False) -> Sequence | None:
        """Take a finished, failed or aborted sequence out; None if it is not known.

        Of a damaged one nothing stays in the prefix cache, nor what its slots were copied from.
        """
        if sequence := self._running.pop(request_id, None):
            if is_damaged:
                self.pool.unpublish(sequence.blocks)
                self.pool.unpublish(self.pool.match([sequence.copied_key]))
            else:
                self._publish_end(sequence)
            self._give_up(sequence)
            return sequence
        for sequence in self._waiting:
            if sequence.request_id == request_id:
                self._waiting.remove(sequence)
                return sequence
        return None

    def check_integrity(self) -> None:
        """Raise `AssertionError` if blocks and leases are not those of the running sequences."""
        running = list(self._running.values())
        copied = [[s.copied_from] for s in running if s.copied_from is not None]
        self.pool.check_integrity([*(sequence.blocks for sequence in running), *copied])
        self.embeddings.check_integrity([key for s in running for key in s.leases])
        assert len(running) <= self._max_running
        assert all(not s.blocks and not s.leases for s in self._waiting)
        assert all(s.request_id in self._running for s in self._claims.values())

    def _release_passed(self, chunk: Chunk) -> None:
        """Give back the leases of images that no later chunk of the sequence needs."""
        sequence = chunk.sequence
        needed = {
            sequence.cache_salt + span.image.digest
            for span in sequence.images
            if span.start + span.length > chunk.end
        }
        for key in sequence.leases - needed:
            sequence.leases.remove(key)
            self.embeddings.release(key)

    def _return_copied(self, sequence: Sequence) -> None:
        if sequence.copied_from is not None:
            self.pool.release([sequence.copied_from])
            sequence.copied_from = None

    def _give_up(self, sequence: Sequence) -> None:
        """Take everything from `sequence` that it holds."""
        self._return_copied(sequence)
        self.pool.release(sequence.blocks)
        for key in sequence.leases:
            self.embeddings.release(key)
        for key in sequence.block_keys[sequence.num_settled :]:
            if self._claims.get(key) is sequence:
                del self._claims[key]
        sequence.blocks, sequence.leases, sequence.copied_key = [], set(), b""
        sequence.num_computed = sequence.num_settled = sequence.num_filled = 0
        sequence.generation += 1

    def _blocks_for(self, num_slots: int) -> int:
        return -(-num_slots // self.block_size)


class _Step:
    """One planning: what of the token budget is left, and what has been decided so far."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._pool = scheduler.pool
        self._embeddings = scheduler.embeddings
        self._block_size = scheduler.block_size
        self._running = scheduler._running
        self._waiting = scheduler._waiting
        self._budget = scheduler._budget
        # What the running sequences leave of it, and of the rows that cost next to nothing.
        num_running = len(self._running)
        self._spare = self._budget - num_running
        self._num_guesses = min(
            scheduler._num_guesses, max(0, CHEAP_ROWS - num_running) // max(1, num_running)
        )
        self._encode_budget = scheduler._budget
        self._chunks: list[Chunk] = []
        self._admitted: list[Sequence] = []
        self._preempted: list[Sequence] = []
        self._encoded: list[bytes] = []
        self._held_back = ""

    def decide(self) -> Plan:
        prefilling = []
        for sequence in tuple(self._running.values()):
            if sequence.request_id not in self._running:
                continue  # it gave way to an older one, a moment ago
            num_tokens = sequence.num_tokens
            if num_tokens - sequence.num_computed > 1:
                prefilling.append(sequence)
            # With a promised token the answer may be as long as it can be.
            elif num_tokens < sequence.max_slots and self._find_room(sequence):
                self._take(sequence, num_tokens, self._guess(sequence))
        for sequence in prefilling:
            if self._budget and sequence.request_id in self._running:
                self._take(sequence, sequence.num_tokens)
        while self._budget and (head := self._admit()) is not None:
            self._take(head, head.num_tokens)
        return Plan(
            chunks=tuple(self._chunks),
            admitted=tuple(self._admitted),
            preempted=tuple(self._preempted),
            encoded=tuple(self._encoded),
            evicted=self._scheduler.embeddings.take_evicted(),
            held_back=self._held_back,
        )

    def _find_room(self, sequence: Sequence) -> bool:
        """Make sure of a block for the next slot; False if `sequence` itself had to give way."""
        if sequence.num_computed < len(sequence.blocks) * self._block_size:
            return True
        while not self._pool.num_available:
            victim = next(s for s in reversed(self._running.values()) if not _is_pinned(s))
            self._preempt(victim)
            if victim is sequence:
                return False
        sequence.blocks += self._pool.allocate(1)
        return True

    def _guess(self, sequence: Sequence) -> tuple[int, ...]:
        """Guess what `sequence` says next, as far as that is cheap and fits its blocks."""
        # The last token of an answer is never computed, so there is no place for a guess of it.
        most = min(self._num_guesses, self._spare, sequence.max_slots - sequence.num_tokens - 1)
        is_answering = sequence.num_computed >= len(sequence.prompt)
        if most < 1 or not is_answering:
            return ()
        if sequence.guesses is None:
            sequence.guesses = Guesses(sequence.prompt, self._scheduler._num_guesses)
        width = min(most, sequence.guesses.width(len(sequence.answer)))
        if width < 1:
            return ()
        guessed = sequence.guesses.after(sequence.answer, width)
        if sequence.grammar is not None:
            guessed = sequence.grammar.guess(sequence.answer, guessed, width)
        # What ends the answer costs nothing to find out.
        stops = sequence.params.stop_token_ids
        guessed = tuple(takewhile(lambda token_id: token_id not in stops, guessed))
        end = sequence.num_computed + 1 + len(guessed)
        missing = self._scheduler._blocks_for(end) - len(sequence.blocks)
        if missing > 0:
            # Those who run may each want a block for what they do say.
            if missing + len(self._running) <= self._pool.num_available:
                sequence.blocks += self._pool.allocate(missing)
            else:
                end = len(sequence.blocks) * self._block_size
        guessed = guessed[: end - sequence.num_computed - 1]
        self._spare -= len(guessed)
        return guessed

    def _preempt(self, victim: Sequence) -> None:
        """Send `victim` back to the head of the line, in front of those who came after it.

        It is not in the plan yet: victims are the youngest, and the oldest are planned first.
        """
        del self._running[victim.request_id]
        self._scheduler._give_up(victim)
        self._scheduler.num_preemptions += 1
        victim.num_preemptions += 1
        self._waiting.appendleft(victim)
        self._preempted.append(victim)

    def _admit(self) -> Sequence | None:
        """Let the head of the line in, if there is a place and it finds its blocks."""
        if not self._waiting or self._preempted:  # who has just given way is the head
            return None
        if len(self._running) >= self._scheduler._max_running:
            self._held_back = f"a place: {len(self._running)} are running"
            return None
        head = self._waiting[0]
        assert not head.num_promised
        shared = self._find_shared(head)
        if shared is None:
            self._held_back = "a beginning that another one is computing"
            return None
        num_slots = head.max_slots if _is_pinned(head) else head.num_tokens
        num_new = self._scheduler._blocks_for(num_slots) - len(shared)
        # Those who run already may each want a block soon.
        num_wanted = num_new + len(shared) - self._pool.count_held(shared) + len(self._running)
        if num_wanted > self._pool.num_available:
            available = self._pool.num_available
            self._held_back = f"blocks: {num_wanted} wanted, {available} there"
            return None
        self._waiting.popleft()
        self._pool.hold(shared)
        num_copied = self._hold_part(head, len(shared), self._pool.num_available - num_new)
        head.blocks = shared + self._pool.allocate(num_new)
        head.num_settled = len(shared)
        head.num_computed = head.copied_to = len(shared) * self._block_size + num_copied
        head.num_filled = len(shared) * self._block_size  # what is to be copied is not there yet
        if head.num_cached is None:
            head.num_cached = head.num_computed
            self._scheduler.num_prefix_hits += head.num_computed
            self._scheduler.num_prefix_queries += len(head.prompt)
        for key in head.block_keys[len(shared) :]:
            self._scheduler._claims.setdefault(key, head)
        self._running[head.request_id] = head
        self._admitted.append(head)
        return head

    def _find_shared(self, head: Sequence) -> list[int] | None:
        """Return the known blocks that `head` begins with; None if waiting will give it more.

        At least one token is left to compute: the logits behind it are wanted.
        """
        if not self._scheduler._prefix_caching:
            return []
        self._scheduler._extend_keys(head, (head.num_tokens - 1) // self._block_size)
        shared = self._pool.match(head.block_keys)
        missing = head.block_keys[len(shared) : len(shared) + 1]
        return None if missing and missing[0] in self._scheduler._claims else shared

    def _hold_part(self, head: Sequence, number: int, num_spare: int) -> int:
        """Hold the block that begins like block `number` of `head`; return how many slots do.

        It is held until they have been copied; not at all if then somebody, of those who may each
        want one soon, `head` among them, found no block among the `num_spare`.
        """
        block, length = self._scheduler._find_part(head, number)
        if not length:
            return 0
        num_wanted = 1 + len(self._running) + 1
        if not self._pool.count_held([block]) and num_wanted > num_spare:
            return 0
        self._pool.hold([block])
        head.copied_from, head.copied_key = block, self._pool.key_of(block)
        return length

    def _take(self, sequence: Sequence, num_tokens: int, guessed: tuple[int, ...] = ()) -> None:
        """Plan as much of the `num_tokens` of `sequence` as budget and embeddings allow.

        Only what is complete with them may be followed by `guessed` tokens.
        """
        start = sequence.num_computed
        end = min(num_tokens, start + self._budget)
        images: tuple[NeededImage, ...] = ()
        if sequence.images and start < len(sequence.prompt):
            end, images = self._lease_images(sequence, start, end)
            if end == start:
                return
        samples = end == num_tokens
        end += len(guessed)
        generation = sequence.generation
        copied_from = sequence.copied_from if start == sequence.copied_to else None
        chunk = Chunk(
            sequence,
            start,
            end,
            sequence.blocks,
            samples,
            generation,
            images,
            guessed,
            copied_from,
        )
        self._chunks.append(chunk)
        sequence.num_computed = end
        sequence.num_promised += samples
        self._budget -= end - start

    def _lease_images(
        self, sequence: Sequence, start: int, end: int
    ) -> tuple[int, tuple[NeededImage, ...]]:
        """Lease what slots [start, end) need; cut them before the first image that has to wait."""
        needed = []
        for span in sequence.images:
            if span.start >= end:
                break
            if span.start + span.length <= start:
                continue
            key = sequence.cache_salt + span.image.digest
            if key not in sequence.leases:
                if not self._lease(key, span):
                    end = max(start, span.start)
                    break
                sequence.leases.add(key)
            needed.append(NeededImage(key, span))
        return end, tuple(needed)

    def _lease(self, key: bytes, span: ImageSpan) -> bool:
        is_new = key not in self._embeddings
        # One image at least may be encoded in a step, be it larger than the budget.
        if is_new and self._encoded and span.length > self._encode_budget:
            return False
        if not self._embeddings.lease(key, span.length * self._scheduler._row_bytes):
            return False
        if is_new:
            self._encode_budget -= span.length
            self._encoded.append(key)
        return True


def _is_pinned(sequence: Sequence) -> bool:
    """After so many preemptions it gets all the blocks that it can ever need, and keeps them."""
    return sequence.num_preemptions >= MAX_PREEMPTIONS
