"""LightGBM's own scores by its C interface, for whatever scores and does not train.

The Python package makes the same calls, but looks for scikit-learn, SciPy and pandas when it is imported, which takes
as long as scoring half a million rows. Added here: another call of the interface. Not here: training (`boosted.py`).
"""

import ctypes
import weakref
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nightscore.training.matrix import Matrix, Vector

_FLOAT64, _ROW_MAJOR = 1, 1
_SCORE, _RAW, _CONTRIBUTIONS = 0, 1, 3  # C_API_PREDICT_NORMAL, _RAW_SCORE and _CONTRIB


class Predictor:
    """A model that LightGBM has loaded; one object serves any number of threads."""

    def __init__(self, text: str) -> None:
        """Load a model's text; raises ValueError where LightGBM refuses it, and may end the process on damage."""
        self._handle, iterations = ctypes.c_void_p(), ctypes.c_int()
        _call("LoadModelFromString", text.encode(), ctypes.byref(iterations), ctypes.byref(self._handle))
        self.iterations = int(iterations.value)
        weakref.finalize(self, _library().LGBM_BoosterFree, self._handle)

    def feature_names(self) -> tuple[str, ...]:
        """The columns that the model takes, in their order."""
        count, room = ctypes.c_int(), ctypes.c_size_t()
        _call("GetFeatureNames", self._handle, 0, ctypes.byref(count), ctypes.c_size_t(), ctypes.byref(room), None)
        buffers = [ctypes.create_string_buffer(room.value) for _ in range(count.value)]
        texts = (ctypes.c_char_p * len(buffers))(*(ctypes.cast(one, ctypes.c_char_p) for one in buffers))
        _call("GetFeatureNames", self._handle, count, ctypes.byref(count), room, ctypes.byref(room), texts)
        return tuple(one.value.decode() for one in buffers)

    def scores(
        self, matrix: Matrix, threads: int, *, raw: bool = False, start: int = 0, iterations: int = -1
    ) -> Vector:
        """Scores (rows,) of a matrix (rows, features), before the link if `raw`.

        By so many `iterations` from `start` on, or by all that follow it.

        Raises ValueError for another number of columns.
        """
        return self._predict(matrix, _RAW if raw else _SCORE, threads, iterations, start)

    def contributions(self, matrix: Matrix, threads: int, iterations: int = -1) -> Matrix:
        """TreeSHAP (rows, features + 1), the base last."""
        return self._predict(matrix, _CONTRIBUTIONS, threads, iterations).reshape(len(matrix), matrix.shape[1] + 1)

    def _predict(self, matrix: Matrix, kind: int, threads: int, iterations: int, start: int = 0) -> Vector:
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
        rows, columns = map(ctypes.c_int32, matrix.shape)
        size, made = ctypes.c_int64(), ctypes.c_int64()
        _call("CalcNumPredict", self._handle, rows, kind, start, iterations, ctypes.byref(size))
        found = np.empty(size.value)
        _call(
            "PredictForMat", self._handle, ctypes.c_void_p(matrix.ctypes.data), _FLOAT64, rows, columns, _ROW_MAJOR,
            kind, start, iterations, f"num_threads={threads}".encode(), ctypes.byref(made),
            ctypes.c_void_p(found.ctypes.data),
        )  # fmt: skip
        assert made.value == size.value
        return found


def _call(name: str, *arguments: Any) -> None:
    library = _library()
    if getattr(library, f"LGBM_Booster{name}")(*arguments):
        raise ValueError(f"LightGBM says: {library.LGBM_GetLastError().decode()}")


@cache
def _library() -> Any:
    """The library inside the installed package."""
    found = find_spec("lightgbm")
    assert found is not None
    assert found.origin is not None
    library = ctypes.CDLL(str(Path(found.origin).parent / "lib" / "lib_lightgbm.so"))
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library
