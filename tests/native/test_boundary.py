"""No argument of a public call ends the process or goes unnamed, and what is refused changes nothing.

Each call is made with one or two good arguments replaced. It may work, or raise a typed error that names an argument
that was replaced; then nothing that it would have written has changed.
"""

from __future__ import annotations

import dataclasses
import re
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hostile_arguments import SCALARS, distortions, layouts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from public_calls import CALLS, PACKS, RAW, UNIT, X, floats, whole_agglomeration, whole_chain

import native_simd
from native_simd import Sigmoid, Temporal, placement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

EXAMPLES = settings(  # no matter how long the machine takes
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SPARE_BYTES = 2**32
LOCAL = placement.MemoryPolicy(placement.MemoryMode.LOCAL)
ANY_FLOATS = st.floats(width=32) | st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf])


@pytest.fixture(autouse=True)
def limited_memory() -> Iterator[None]:
    """Let nothing allocate what no memory holds, whatever the system would promise."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Return what writes an example down: after a crash, the file under pytest's temporary folder still has it."""
    with (tmp_path / "example").open("w", encoding="utf-8") as file:

        def note(text: str) -> None:
            file.seek(0)
            file.truncate()
            file.write(text)
            file.flush()

        yield note


def replacements(good: object) -> st.SearchStrategy[tuple[str, Any]]:
    if isinstance(good, np.ndarray):
        return layouts(good) | distortions(good)
    times = np.arange(5)
    others = [*PACKS, X, X[0], Temporal(1.0, times), Temporal(1.0, times, times), Sigmoid(1.0, 0.0), LOCAL]
    return (SCALARS | st.sampled_from(others)).map(lambda value: ("another", value))


def bytes_of(array: object) -> bytes | None:
    return array.tobytes() if isinstance(array, np.ndarray) and array.dtype != object and array.size < 10**6 else None


def refusal(function: Callable[..., object], arguments: dict[str, Any]) -> Exception | None:
    """Return the typed error of a call."""
    try:
        function(**arguments)
    except (TypeError, ValueError, MemoryError, OSError) as error:
        return error
    return None


@pytest.mark.parametrize("name", CALLS)
@EXAMPLES
@given(data=st.data())
def test_a_misuse_is_a_typed_error_that_names_it_and_writes_nothing(
    example: Callable[[str], None], *, name: str, data: st.DataObject
) -> None:
    call = CALLS[name]
    arguments = call.make()
    chosen = data.draw(st.sets(st.sampled_from(sorted(arguments)), min_size=1, max_size=2), label="replaced")
    for key in sorted(chosen):
        _, arguments[key] = data.draw(replacements(arguments[key]), label=key)
    example(f"{name}({ {key: arguments[key] for key in chosen}!r})")
    before = {key: bytes_of(arguments[key]) for key in call.written}
    error = refusal(call.function, arguments)
    if error is None:
        return
    assert {key: bytes_of(arguments[key]) for key in call.written} == before
    if not isinstance(error, (native_simd.RowError, MemoryError, OSError)):  # they name a row, a size, a system call
        names = "|".join([*chosen, *(call.aliases.get(key, key) for key in chosen)])
        assert re.search(rf"\b({names})\b", str(error)), error


def frozen(value: object) -> object:
    """Return what can be compared to the bit."""
    if isinstance(value, np.ndarray):
        return value.shape, np.array(value).tobytes()
    if isinstance(value, tuple):
        return tuple(frozen(item) for item in value)
    if dataclasses.is_dataclass(value):
        return tuple(frozen(getattr(value, each.name)) for each in dataclasses.fields(value) if each.compare)
    return value


@pytest.mark.parametrize("name", [name for name in CALLS if name not in {"bind_memory", "page_nodes", "place"}])
@EXAMPLES
@given(data=st.data())
def test_the_layout_of_an_array_changes_no_bit_of_the_result(
    example: Callable[[str], None], *, name: str, data: st.DataObject
) -> None:
    call = CALLS[name]
    good, arguments = call.make(), call.make()
    chosen = [key for key, value in sorted(arguments.items()) if isinstance(value, np.ndarray)]
    for key in chosen:
        layout, arguments[key] = data.draw(layouts(arguments[key]), label=key)
        example(f"{name}: {key} {layout}")
    results: list[object] = []
    error = refusal(lambda **arguments: results.append(call.function(**arguments)), arguments)
    if error:
        assert re.search(rf"\b({'|'.join(chosen)}) must\b.*(contiguous|writeable)", str(error)), error
        return
    assert frozen(results[0]) == frozen(call.function(**good))
    assert [frozen(arguments[key]) for key in call.written] == [frozen(good[key]) for key in call.written]


def any_square(data: st.DataObject, n: int) -> NDArray[np.float32]:
    return np.array(data.draw(st.lists(ANY_FLOATS, min_size=n * n, max_size=n * n)), np.float32).reshape(n, n)


@EXAMPLES
@given(
    data=st.data(), n=st.integers(1, 7), method=st.sampled_from(["average", "complete", "single", "weighted", "ward"])
)
def test_any_matrix_ends_in_a_tree_or_an_error(
    example: Callable[[str], None], *, data: st.DataObject, n: int, method: native_simd.Method
) -> None:
    arguments: dict[str, Any] = {"counts": np.ones(n)}
    if method in {"average", "weighted"} and data.draw(st.booleans()):
        arguments |= {"sums": any_square(data, n).astype(np.float64), "value_error": data.draw(st.floats(0, 10))}
    matrix = any_square(data, n)
    example(repr((matrix, method, arguments)))
    error = refusal(whole_chain, {"matrix": matrix, "method": method, **arguments})
    assert error is None or "not symmetric" in str(error)


@EXAMPLES
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(2, 400),
    width=st.integers(1, 6),
    case=st.sampled_from(
        [("average", "dot"), ("weighted", "dot"), ("average", "sqeuclidean"), ("ward", "sqeuclidean")]
    ),
)
def test_lists_of_other_points_end_in_a_tree_or_an_error(
    example: Callable[[str], None], *, seed: int, n: int, width: int, case: tuple[str, native_simd.Metric]
) -> None:
    method, metric = case
    rng = np.random.default_rng(seed)
    rows, others = rng.standard_normal((2, n, 3), np.float32)
    lying = native_simd.NeighbourPass(native_simd.pack(3 * others, unit=False), width, metric=metric)
    lying.run()
    example(repr((seed, n, width, case)))
    arguments = {"rows": rows, "divisors": None, "packed": native_simd.pack(rows, unit=False), "weights": np.ones(n)}
    error = refusal(whole_agglomeration, arguments | {"lists": lying.lists, "method": method, "metric": metric})
    assert error is None or "contradict each other" in str(error)


@EXAMPLES
@given(data=st.data(), n=st.integers(1, 40), metric=st.sampled_from(["dot", "cosine", "sqeuclidean", "euclidean"]))
def test_any_panels_stay_within_their_bounds(
    example: Callable[[str], None], *, data: st.DataObject, n: int, metric: native_simd.Metric
) -> None:
    panels = np.array(data.draw(st.lists(ANY_FLOATS, min_size=1, max_size=20)), np.float32)
    packed = native_simd.PackedVectors(np.resize(panels, -(-n // 16) * 16 * 3), np.ones(n), n, 3, unit=True)
    example(repr((panels, n, metric)))
    native_simd.pairwise_symmetric(packed, metric=metric, out=floats(n, n))
    for ids in (native_simd.neighbours(packed, 3, metric).ids, native_simd.top_k(X[:, :3], packed, 3)[0]):
        assert ((ids >= -1) & (ids < n)).all()


def overlaps() -> dict[str, Callable[[], object]]:
    frame, panels = floats(21, 60), RAW.panels.copy()
    writable = dataclasses.replace(RAW, panels=panels)
    within = panels[: 2 * 21].reshape(2, 21)
    two = RAW.rows(16, 18)
    memory = np.zeros((21, 21))
    return {
        "out and mirror": lambda: native_simd.pairwise(
            RAW, RAW, metric="dot", out=frame[:, :21], mirror=frame[:, 20:41]
        ),
        "out and the panels of a": lambda: native_simd.pairwise_symmetric(
            dataclasses.replace(writable, n=2, norms=RAW.norms[:2], panels=panels[:80]), metric="dot", out=within[:, :2]
        ),
        "out and the panels of b": lambda: native_simd.pairwise(two, writable, metric="dot", out=within),
        "mirror and the panels of a": lambda: native_simd.pairwise(
            writable, two, metric="dot", out=floats(21, 2), mirror=within
        ),
        "out and times_b": lambda: native_simd.pairwise(
            UNIT,
            UNIT,
            temporal=Temporal(1.0, np.arange(21), memory.view(np.int64).reshape(-1)[:21]),
            out=memory.view(np.float32)[:, :21],
        ),
        "matrix and sums": lambda: native_simd.NearestNeighbourChain(
            memory.view(np.float32)[:, :21], "average", np.ones(21), sums=memory, value_error=0.0
        ),
    }


@pytest.mark.parametrize("message", overlaps())
def test_what_is_written_overlaps_nothing(message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message} must not share memory"):
        overlaps()[message]()


def test_interleaved_outputs_are_apart() -> None:
    frame = floats(21, 60)
    native_simd.pairwise(RAW, RAW, metric="dot", out=frame[:, 1:22], mirror=frame[:, 22:43])
    assert (frame[:, 1:22] == frame[:, 22:43].T).all()
    assert (frame[:, [0, *range(43, 60)]] == floats(21, 18)).all()


@pytest.mark.parametrize("unit", [True, False])
def test_an_agglomeration_refuses_panels_of_other_rows(unit: bool) -> None:
    lists = CALLS["Agglomeration"].make()["lists"]
    packed, norms = native_simd.pack(X, unit=unit), native_simd.norms(X)
    for replaced in (dataclasses.replace(packed, panels=packed.panels[::-1].copy()), native_simd.pack(-X, unit=unit)):
        with pytest.raises(ValueError, match="packed must be of the rows, and not overwritten"):
            native_simd.Agglomeration(
                X, norms if unit else None, replaced, np.ones(21), lists, method="average", metric="dot"
            )
