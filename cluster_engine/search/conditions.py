"""Conditions on the facts of concepts: which of them a search may find.

Owns what a condition means. Refuses to know which columns there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Condition:
    """What a column of a concept must be; nothing holds for a null.

    ``Condition("n_episodes", least=5)``, ``Condition("last_time", least=monday, most=sunday)``,
    ``Condition("state", among=("active", "dormant"))``.

    Attributes
    ----------
    column : str
    least, most : object, optional
        Bounds that are allowed, of the column's type; of a time also as text in ISO 8601.
    among : sequence, optional
        Values that are allowed.
    """

    column: str
    least: Any = None
    most: Any = None
    among: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        if self.least is None and self.most is None and self.among is None:
            raise ValueError(f"a condition on {self.column!r} needs least, most or among")
        if isinstance(self.among, str):
            raise TypeError(f"among must be a sequence of values of {self.column!r}, got {self.among!r}")

    def __str__(self) -> str:
        lower = f"{self.least} <= " if self.least is not None else ""
        upper = f" <= {self.most}" if self.most is not None else ""
        values = f" in {list(self.among)}" if self.among is not None else ""
        return f"{lower}{self.column}{upper}{values}"

    def holds(self, facts: pa.Table) -> NDArray[np.bool_]:
        """Return for which rows it holds.

        Raises
        ------
        ValueError
            There is no such column, or a value is not of its type.
        """
        if self.column not in facts.column_names:
            raise ValueError(f"no column {self.column!r} to filter by; there are: {', '.join(facts.column_names)}")
        column = facts[self.column]
        held = np.ones(len(facts), np.bool_)
        try:
            if self.least is not None:
                held &= _filled(pc.greater_equal(column, _scalar(self.least, column.type)))
            if self.most is not None:
                held &= _filled(pc.less_equal(column, _scalar(self.most, column.type)))
            if self.among is not None:
                values = [_scalar(value, column.type).as_py() for value in self.among]
                held &= _filled(pc.is_in(column, pa.array(values, column.type)))
        except (pa.ArrowException, TypeError) as error:
            raise ValueError(f"{self}: not of the type {column.type} of column {self.column!r}: {error}") from error
        return held


def _scalar(value: Any, kind: pa.DataType) -> pa.Scalar[Any]:  # noqa: ANN401 - of whatever column
    scalar: pa.Scalar[Any] = pa.scalar(value)
    return scalar.cast(kind) if isinstance(value, str) and pa.types.is_timestamp(kind) else scalar


def _filled(held: Any) -> NDArray[np.bool_]:  # noqa: ANN401 - an array of Arrow, chunked or not
    return np.asarray(pc.fill_null(held, pa.scalar(False)), np.bool_)  # noqa: FBT003 - pyarrow takes it by position
