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
SOURCES = tuple(Path(__file__).with_name(name) for name in ("quickscorer.c", "quickscorer_x86.h"))
LIBRARY = SOURCES[0].with_suffix(".so")

Vector = npt.NDArray[np.float64]
_ARRAYS = ("columns", "thresholds", "classes", "numbers", "categories", "sets", "groups", "trees", "leaves")


class _Forest(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in _ARRAYS] + [
        (name, ctypes.c_int32) for name in ("n_columns", "n_slots", "n_trees", "n_outputs")
    ]


@cache
def _library() -> Any:
    """The library, or None where there is none, or it was built of other sources than those beside it."""
    if not LIBRARY.is_file():
        return None
    library = ctypes.CDLL(str(LIBRARY))
    library.nightscore_source.restype = ctypes.c_char_p
    sources = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES))
    if library.nightscore_source().decode() != sources.hexdigest():
        return None
    pointer, long, int32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
    library.nightscore_room.argtypes, library.nightscore_room.restype = [int32], long
    library.nightscore_add_trees.argtypes = [pointer, pointer, long, long, *[int32] * 3, pointer, pointer]
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
        """The kernel of a forest by one of `find_instructions`; raises ValueError for another."""
        if instructions not in find_instructions():
            raise ValueError(f"expected one of the instruction sets {find_instructions()}, got {instructions!r}")
        arrays = [getattr(forest, name).ctypes.data for name in _ARRAYS]
        sizes = [len(forest.columns), forest.slots, len(forest.trees), forest.outputs]
        return cls(forest, instructions, _Forest(*arrays, *sizes))

    def add_trees(
        self, columns: Sequence[Vector], start: int, stop: int, trees: tuple[int, int] | None = None,
        sums: Vector | None = None,
    ) -> Vector:  # fmt: skip
        """Sums (rows, outputs) of the leaves of rows [start, stop), added to `sums` in place where given.

        `columns`: one float64 array a feature, in the model's order. `trees`: from, to; all by default.
        Raises ValueError for what is out of bounds.
        """
        first, last = trees or (0, len(self.forest.trees))
        _check_bounds(columns, self.forest, start, stop, first, last)
        total = np.zeros((stop - start, self.forest.outputs)) if sums is None else sums
        _check_sums(total, (stop - start, self.forest.outputs))
        pointers = (ctypes.c_void_p * len(columns))(*(column.ctypes.data for column in columns))
        room = np.empty(_library().nightscore_room(self.forest.slots), np.uint8)
        failed = _library().nightscore_add_trees(
            ctypes.byref(self._pointer), pointers, start, stop - start, first, last,
            INSTRUCTIONS.index(self.instructions), room.ctypes.data, total.ctypes.data,
        )  # fmt: skip
        assert not failed
        return total

    def transform(self, sums: Vector) -> Vector:
        """`sums` (rows, outputs) by the objective's own function, in place."""
        _check_sums(sums, (len(sums), self.forest.outputs))
        kind, slope = self.forest.transform
        failed = _library().nightscore_transform(kind, slope, *sums.shape, sums.ctypes.data)
        assert not failed
        return sums


def _check_bounds(columns: Sequence[Vector], forest: Forest, start: int, stop: int, first: int, last: int) -> None:
    """What C cannot see for itself; a wrong array would be read beyond its end."""
    if len(columns) != forest.features or any(
        one.dtype != np.float64 or one.ndim != 1 or not one.flags.c_contiguous or not one.flags.aligned
        for one in columns
    ):
        raise ValueError(f"expected {forest.features} float64 columns, each without gaps")
    if not 0 <= start <= stop <= min(len(one) for one in columns):
        raise ValueError(f"rows [{start}, {stop}) are not all within the columns")
    if not 0 <= first <= last <= len(forest.trees):
        raise ValueError(f"trees [{first}, {last}) are not all among {len(forest.trees)}")


def _check_sums(sums: Vector, shape: tuple[int, int]) -> None:
    fits = sums.flags.c_contiguous and sums.flags.aligned and sums.flags.writeable
    if sums.shape != shape or sums.dtype != np.float64 or not fits:
        raise ValueError(f"expected sums of shape {shape}, float64, without gaps, to be written to")
