"""Blobs: bytes that a client may have back for a while, by a key that only it knows. A cache with owners and quotas.

A blob is its owner's alone: for any other address it does not exist. It expires after a fixed time, however often it is
read, unless it is renewed. When room runs out, the oldest blob of the network block that holds most is evicted, so that
nobody pushes others out by storing much or by having many addresses. What the bytes mean is not known here.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from standpipe.policy.identity import ClientKey


class Quota(Struct, frozen=True):
    """How long blobs live, in seconds, and how much is stored: bytes of one, number per client, bytes of all."""

    seconds: float = 3600.0
    blob_bytes: int = 1_048_576
    per_client: int = 32
    total_bytes: int = 67_108_864


class _Blob(Struct, frozen=True, gc=False):
    address: str
    block: str
    value: bytes
    until: float


class Blobs:
    """All blobs of this process. `now` is in seconds, on any clock that does not go back."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._blobs: dict[str, _Blob] = {}  # in order of expiry, because all live equally long
        self._of_client: dict[str, dict[str, None]] = {}  # keys, the oldest first
        self._of_block: dict[str, dict[str, None]] = {}
        self._block_bytes: dict[str, int] = {}
        self.bytes = 0
        """Stored now, in all."""

    def put(self, key: str, owner: ClientKey, value: bytes, now: float) -> bool:
        """Store a blob under a new key. False: it is too large, and is not stored."""
        self.expire(now)
        if len(value) > min(self._quota.blob_bytes, self._quota.total_bytes):
            return False
        self._add(key, _Blob(owner.address, owner.block, value, now + self._quota.seconds))
        of_client = self._of_client[owner.address]
        while len(of_client) > self._quota.per_client:
            self._drop(next(iter(of_client)))
        while self.bytes > self._quota.total_bytes:
            # Looks at every block: only when room is short, and only once for a whole answer.
            heaviest = max(self._block_bytes, key=self._block_bytes.__getitem__)
            self._drop(next(iter(self._of_block[heaviest])))
        return key in self._blobs

    def get(self, key: str, owner: ClientKey, now: float) -> bytes | None:
        """The owner's blob, None when there is none."""
        self.expire(now)
        blob = self._blobs.get(key)
        return blob.value if blob is not None and blob.address == owner.address else None

    def renew(self, key: str, owner: ClientKey, now: float) -> bytes | None:
        """The owner's blob, which lives from now on as long as a new one. None when there is none."""
        if self.get(key, owner, now) is None:
            return None
        blob = self._blobs[key]
        self._drop(key)
        self._add(key, replace(blob, until=now + self._quota.seconds))
        return blob.value

    def delete(self, key: str, owner: ClientKey, now: float) -> bool:
        """Forget the owner's blob. False: there was none."""
        if self.get(key, owner, now) is None:
            return False
        self._drop(key)
        return True

    def expire(self, now: float) -> None:
        """Drop every blob whose time has passed. Every other call does so too; a server without calls uses this."""
        while self._blobs:
            key, blob = next(iter(self._blobs.items()))
            if blob.until > now:
                return
            self._drop(key)

    def _add(self, key: str, blob: _Blob) -> None:
        self._blobs[key] = blob
        self._of_client.setdefault(blob.address, {})[key] = None
        self._of_block.setdefault(blob.block, {})[key] = None
        self._block_bytes[blob.block] = self._block_bytes.get(blob.block, 0) + len(blob.value)
        self.bytes += len(blob.value)

    def _drop(self, key: str) -> None:
        blob = self._blobs.pop(key)
        self.bytes -= len(blob.value)
        for name, groups in ((blob.address, self._of_client), (blob.block, self._of_block)):
            del groups[name][key]
            if not groups[name]:
                del groups[name]
        self._block_bytes[blob.block] -= len(blob.value)
        if blob.block not in self._of_block:
            del self._block_bytes[blob.block]

    def __len__(self) -> int:
        return len(self._blobs)
