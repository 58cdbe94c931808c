"""Long base64 texts that turned out to be pictures.

Conversations bring their pictures along with every question. To parse four megabytes of JSON, to
decode them and to hash the file takes longer than everything else that happens to a request whose
picture has been decoded before; to hash the text alone tells the same. Texts that came twice are
kept, as far as there is room: to compare the next one with them takes half as long again.
"""

import os
import threading
from collections import OrderedDict

from blake3 import blake3

from sightline.core.limits import KIB, MIB
from sightline.media.recogniser import BEGINNING_CHARS, KeptText, Recogniser

# A shorter text is read as quickly as it is looked up.
LEAST_CHARS = 16 * KIB
MAX_TEXTS = 1024
MAX_KEPT_BYTES = 64 * MIB


class KnownBase64:
    """Remembers texts by their digests, the last `MAX_TEXTS` of them. Any thread may call it.

    Up to `max_kept_bytes` of texts are kept, those that came last.

    A digest is keyed with a secret of this process and the tenant's salt: nobody can make one text
    pass for another, or learn by the clock what others have sent.
    """

    def __init__(self, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self._secret = os.urandom(32)
        self._files: OrderedDict[bytes, bytes] = OrderedDict()
        self._kept: OrderedDict[bytes, KeptText] = OrderedDict()  # by digests of their beginnings
        self._max_kept_bytes = max_kept_bytes
        self._num_kept_bytes = 0
        self._lock = threading.Lock()

    def recogniser(self, salt: bytes) -> Recogniser:
        """Return what makes the digest of a text that comes in pieces."""
        return Recogniser(self._hasher(salt), lambda beginning: self._find_kept(beginning, salt))

    def digest(self, text: bytes | memoryview, salt: bytes) -> bytes:
        """Return the digest of `text`. Lets other threads go on meanwhile."""
        return self._hasher(salt).update(text).digest()

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

    def keep(self, text: bytes, text_digest: bytes, salt: bytes) -> None:
        """Keep a text, so that the next one that is the same need only be compared with it.

        Of texts that begin alike the first is kept: they would drive each other out otherwise.
        """
        if len(text) > self._max_kept_bytes:
            return
        beginning = self.digest(text[:BEGINNING_CHARS], salt)
        with self._lock:
            if beginning in self._kept:
                return
            self._kept[beginning] = KeptText(text, text_digest)
            self._num_kept_bytes += len(text)
            while self._num_kept_bytes > self._max_kept_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._num_kept_bytes -= len(oldest.text)

    def _find_kept(self, beginning: bytes, salt: bytes) -> KeptText | None:
        """Return the text that is kept and begins so, if there is one."""
        digest = self.digest(beginning, salt)
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            return self._kept.get(digest)

    def _hasher(self, salt: bytes) -> blake3:
        return blake3(len(salt).to_bytes(8, "big") + salt, key=self._secret)
