"""Going back: the version before the last change becomes the current one again, byte for byte.

Owns which version that is. Nothing is removed: what was undone stays a version, and its batch stays done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster_engine.errors import StoreError
from cluster_engine.store.catalog import read_manifests
from cluster_engine.store.commit import restore_version
from cluster_engine.store.lease import hold_lease
from cluster_engine.store.location import StoreUri, locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster_engine.store.manifest import Manifest


def undo(store: StoreUri, *, to: int | None = None, wait_s: float = 60.0) -> int:
    """Make a version the current one again, as a new version with the same files.

    Parameters
    ----------
    store : path or URI
    to : int, optional
        The version to go back to; default, the one before the last change: undone twice goes back twice.
    wait_s : float
        How long to wait for a batch that is at work, in seconds.

    Returns
    -------
    int
        Number of the new version. Its `content_sha256` is that of the version gone back to.

    Raises
    ------
    StoreError
        There is no such version, or none before; or the store cannot be read or written.

    Notes
    -----
    The slot of a batch that was undone stays committed: a scheduler does not run it again. To run it again, name it
    otherwise.
    """
    with hold_lease(store, wait_s=wait_s) as fence:
        manifests = read_manifests(locate(store))
        if not manifests:
            raise StoreError(f"no store at {store} yet: nothing to undo")
        wanted = to if to is not None else version_before(manifests)
        if wanted is None:
            raise StoreError(f"the store {store} has no version before its last change: nothing to undo")
        return restore_version(store, wanted, expected_version=manifests[-1].version, fence=fence)


def version_before(manifests: Sequence[Manifest]) -> int | None:
    """Return the version before the last change, or None.

    The state of the last version may be an older one's, restored: then it is the version before that one.
    """
    state = manifests[-1].files
    first = next(i for i, manifest in enumerate(manifests) if manifest.files == state)
    return manifests[first - 1].version if first else None
