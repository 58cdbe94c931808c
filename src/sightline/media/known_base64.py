"""Long base64 texts that turned out to be pictures.

Conversations bring their pictures along with every question. To parse four megabytes of JSON, to
decode them and to hash the file takes longer than everything else that happens to a request whose
picture has been decoded before; to hash the text alone tells the same.
"""

import os
import threading
from collections import OrderedDict

from blake3 import blake3

from sightline.core.limits import KIB

# A shorter text is read as quickly as it is looked up.
LEAST_CHARS = 64 * KIB
MAX_TEXTS = 1024


class KnownBase64:
    """Remembers texts by their digests, the last `MAX_TEXTS` of them. Any thread may call it.

    A digest is keyed with a secret of this process and the tenant's salt: nobody can make one text
    pass for another, or learn by the clock what others have sent.
    """

    def __init__(self) -> None:
        self._secret = os.urandom(32)
        self._files: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def hasher(self, salt: bytes) -> blake3:
        """Return what makes the digest of the text that it is updated with."""
        return blake3(len(salt).to_bytes(8, "big") + salt, key=self._secret)

    def digest(self, text: bytes | memoryview, salt: bytes) -> bytes:
        """Return the digest of `text`. Lets other threads go on meanwhile."""
        return self.hasher(salt).update(text).digest()

    def note(self, text_digest: bytes, file_digest: bytes) -> None:
        """Remember the file that a text means. It must be nothing but digits of base64."""
        with self._lock:
            self._files[text_digest] = file_digest
            self._files.move_to_end(text_digest)
            if len(self._files) > MAX_TEXTS:
                self._files.popitem(last=False)

    def file_of(self, text_digest: bytes) -> bytes | None:
        """Return the digest of the file that a text means, if it is known."""
        with self._lock:
            return self._files.get(text_digest)
