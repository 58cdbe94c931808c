"""What the engine is asked to continue: token ids and decoded pictures."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One decoded picture, already in the size the model wants.

    `pixels` are `height * width * 3` bytes of RGB, row by row. `digest` covers the pixels, their
    size and the preprocessing settings; it is the picture's identity in every cache.
    `has_more_frames`: the file moves, and these are the pixels of its first frame.
    `is_declared_otherwise`: the server that sent the file called it another type.
    """

    pixels: bytes = field(repr=False)
    width: int
    height: int
    digest: bytes = field(repr=False)
    original_width: int
    original_height: int
    has_more_frames: bool = False
    is_declared_otherwise: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpan:
    """Where an image's rows stand in the prompt: slots [start, start + length).

    The span includes the model's begin and end rows where it has them.
    """

    image: Image
    start: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Token ids, one per slot of the KV cache, and the images that overlay some of them.

    Image slots hold the model's placeholder ids; their embeddings come from the vision tower.
    `cache_salt` separates tenants in every cache.
    """

    token_ids: tuple[int, ...] = field(repr=False)
    images: tuple[ImageSpan, ...] = ()
    cache_salt: bytes = field(default=b"", repr=False)

    @property
    def num_image_tokens(self) -> int:
        return sum(span.length for span in self.images)

    def __repr__(self) -> str:  # sizes only: prompts are private
        return f"Prompt({len(self.token_ids)} tokens, {len(self.images)} images)"
