"""What an operator may choose about the HTTP surface."""

from dataclasses import dataclass, field

from sightline.core.held_bytes import HeldBytes
from sightline.core.limits import Limits
from sightline.media.known_base64 import KnownBase64
from sightline.server.keys import KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Options of `create_app` and `Server`.

    `bind_host` is the address the server listens on; a loopback address turns on the Host and
    Origin checks that keep web pages away from a server without keys. `allowed_hosts` are further
    names that may stand in the Host header then; `allowed_origins` are web sites whose pages may
    use the API. `api_keys` is short for a `key_ring` of them. With `strict`, every request is
    judged as if it carried `x-sightline-strict: 1`. `held_bytes` is the book of what requests
    bring, when others write into it too. `inspect_content` keeps what the last requests said, for
    the page that shows them. `known` are the pictures that the image loader has read before. Idle
    and clock values come from `limits`.
    """

    bind_host: str = "127.0.0.1"
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    key_ring: KeyRing | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    strict: bool = False
    held_bytes: HeldBytes | None = None
    inspect_content: bool = False
    known: KnownBase64 = field(default_factory=KnownBase64, repr=False)
    limits: Limits = field(default_factory=Limits)
