"""The compiled kernel as functions over NumPy arrays; the GIL is released while it works.

It was built at install where a compiler was there. Added here: another function of `quickscorer.c`. Not here: the
choice between the kernel and LightGBM (`engine.py`).
"""

import ctypes
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nightscore.scoring.forest import Forest

INSTRUCTIONS = ("portable", "SSSE3", "AVX2", "AVX-512")
SOURCE = Path(__file__).with_name("quickscorer.c")
LIBRARY = SOURCE.with_suffix(".so")

Vector = npt.NDArray[np.float64]
_ARRAYS = ("columns", "thresholds", "classes", "numbers", "categories", "sets", "groups", "trees", "leaves")


class _Forest(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in _ARRAYS] + [
        (name, ctypes.c_int32) for name in ("n_columns", "n_slots", "n_trees", "n_outputs")
    ]


@cache
def _library() -> Any:
    """The library, or None where there is none, or it was built of another source than the one beside it."""
    if not LIBRARY.is_file():
        return None
    library = ctypes.CDLL(str(LIBRARY))
    library.nightscore_source.restype = ctypes.c_char_p
    if library.nightscore_source().decode() != hashlib.sha256(SOURCE.read_bytes()).hexdigest():
        return None
    pointer, long, int32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
    library.nightscore_add_trees.argtypes = [pointer, pointer, long, long, int32, int32, int32, pointer]
    library.nightscore_transform.argtypes = [int32, ctypes.c_double, long, int32, pointer]
    return library


def find_instructions() -> tuple[str, ...]:
    """The instruction sets that can be used here, the fastest last; none where there is no kernel."""
    library = _library()
    return () if library is None else INSTRUCTIONS[: library.nightscore_best_instructions() + 1]


@dataclass(frozen=True)
class Kernel:
    """A forest ready to score; one object serves any number of threads."""

    forest: Forest
    instructions: str
    _pointer: _Forest = field(repr=False, compare=False)

    @classmethod
    def of(cls, forest: Forest, instructions: str) -> Self:
        """The kernel of a forest by one of `find_instructions`."""
        arrays = [getattr(forest, name).ctypes.data for name in _ARRAYS]
        sizes = [len(forest.columns), forest.slots, len(forest.trees), forest.outputs]
        return cls(forest, instructions, _Forest(*arrays, *sizes))

    def add_trees(
        self, columns: Sequence[Vector], start: int, stop: int, trees: tuple[int, int] | None = None,
        sums: Vector | None = None,
    ) -> Vector:  # fmt: skip
        """Sums (rows, outputs) of the leaves of rows [start, stop), added to `sums` in place where given.

        `columns`: one float64 array a feature, in the model's order. `trees`: from, to; all by default.
        """
        _check(columns, self.forest.features, stop)
        total = np.zeros((stop - start, self.forest.outputs)) if sums is None else sums
        assert total.flags.c_contiguous
        assert total.shape == (stop - start, self.forest.outputs)
        pointers = (ctypes.c_void_p * len(columns))(*(column.ctypes.data for column in columns))
        first, last = trees or (0, len(self.forest.trees))
        failed = _library().nightscore_add_trees(
            ctypes.byref(self._pointer), pointers, start, stop - start, first, last,
            INSTRUCTIONS.index(self.instructions), total.ctypes.data,
        )  # fmt: skip
        assert not failed
        return total

    def transform(self, sums: Vector) -> Vector:
        """`sums` (rows, outputs) by the objective's own function, in place."""
        kind, slope = self.forest.transform
        failed = _library().nightscore_transform(kind, slope, *sums.shape, sums.ctypes.data)
        assert not failed
        return sums


def _check(columns: Sequence[Vector], features: int, rows: int) -> None:
    """What C cannot see for itself; a wrong array would be read beyond its end."""
    if len(columns) != features or any(
        one.dtype != np.float64 or not one.flags.c_contiguous or len(one) < rows for one in columns
    ):
        raise ValueError(f"expected {features} float64 columns of at least {rows} values, each without gaps")
