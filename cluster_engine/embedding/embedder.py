"""What embeds texts: the interface, and how a name on the command line becomes one.

Knows names. Refuses to know any model.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cluster_engine.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

ENTRY_POINTS = "cluster_engine.embedders"
"""Group in which a package names the embedders that it brings."""
DEFAULT = "minilm"


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors.

    A text's vector should depend on the text alone, not on the others of its batch: else equal inputs that are batched
    otherwise give other episodes.
    """

    @property
    def dimension(self) -> int:
        """Elements of each vector."""

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return a vector for each text, ``(n, dimension)`` float32."""


def load_embedder(name: str = DEFAULT) -> Embedder:
    """Return the embedder of a name.

    Parameters
    ----------
    name : str
        An entry point of the group `ENTRY_POINTS`, or ``module:attribute``. Either is an `Embedder`, or something that
        returns one when it is called without arguments.

    Raises
    ------
    ConfigError
        There is none of this name, or what it needs is not installed.
    """
    named = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    module, colon, attribute = named.get(name, name).partition(":")
    if not (module and colon and attribute):
        raise ConfigError(f"no embedder {name!r}; known: {', '.join(sorted(named))}; or name one as module:attribute")
    try:
        found = getattr(import_module(module), attribute)
        embedder = found() if isinstance(found, type) or not isinstance(found, Embedder) else found
    except (ImportError, AttributeError) as error:
        hint = "; the text extra has what it needs: pip install 'cluster-engine[text]'" if name == DEFAULT else ""
        raise ConfigError(f"embedder {name!r} cannot be loaded: {error}{hint}") from error
    if not isinstance(embedder, Embedder):
        raise ConfigError(f"embedder {name!r} has no method embed(texts) and no dimension: {type(embedder).__name__}")
    return embedder
