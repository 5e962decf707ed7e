"""Why a row got its score, in words: the features that moved it most, as one text a row for readers of tables.

Added here: how a value or a contribution reads. Not here: the contributions (`nightscore/training/contributions.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from nightscore.errors import SpecError
from nightscore.training.matrix import Matrix

REASON_CODES = "reason_codes"
ROWS_PER_CHUNK = 100_000
ExplainedRows = Literal["all", "decided", "top_k"]
Order = npt.NDArray[np.int64]


def reason_codes(
    frame: pl.DataFrame,
    contributions: Matrix,
    names: Sequence[str],
    titles: Mapping[str, str],
    top: int,
    rows_per_chunk: int = ROWS_PER_CHUNK,
) -> pl.Series:
    """One text a row (String): its `top` (at least 1) strongest features as `title = value (+0.32)`, joined by "; ".

    `contributions` (rows, features) belong to the rows of `frame` and to its columns `names`. Strongest first, by
    size; ties go to the feature that comes first; contributions of 0 are left out, so a text may be empty. A feature
    without a title goes by its name.
    """
    top = min(top, len(names))
    texts = [
        _explain(chunk, contributions[at : at + chunk.height], names, titles, top)
        for at, chunk in zip(
            range(0, frame.height, rows_per_chunk), frame.select(names).iter_slices(rows_per_chunk), strict=False
        )
    ]
    return pl.concat([pl.Series(REASON_CODES, [], dtype=pl.String), *texts])


def choose_rows(decided: pl.DataFrame, rows: ExplainedRows, k: int | None = None) -> pl.Series:
    """Which rows of `decided` get reasons (Boolean): all, those decided for, or those ranked up to `k` on their date.

    Raises SpecError for `top_k` without `k`.
    """
    if rows == "all":
        return pl.repeat(True, decided.height, dtype=pl.Boolean, eager=True).alias("chosen")
    if rows == "decided":
        return decided["decision"].fill_null(False).alias("chosen")
    if k is None:
        raise SpecError("choosing rows to explain", "top_k says how rows are chosen, but not k", "say how many: k")
    return (decided["rank"] <= k).fill_null(False).alias("chosen")


def _explain(
    chunk: pl.DataFrame, contributions: Matrix, names: Sequence[str], titles: Mapping[str, str], top: int
) -> pl.Series:
    order = _strongest(contributions, top).ravel()
    # Texts are made feature by feature, only where they are shown, and then brought back to their places.
    by_feature = np.argsort(order, kind="stable")
    bounds = np.searchsorted(order[by_feature], np.arange(len(names) + 1))
    texts = []
    for feature, name in enumerate(names):
        rows = by_feature[bounds[feature] : bounds[feature + 1]] // top
        texts.append(_phrases(chunk[name].gather(rows), contributions[rows, feature], titles.get(name) or name))
    places = np.empty_like(by_feature)
    places[by_feature] = np.arange(len(order))
    shown = pl.concat(texts).gather(places)
    slots = [shown.gather_every(top, slot).alias(str(slot)) for slot in range(top)]
    return pl.select(pl.concat_str(slots, separator="; ", ignore_nulls=True).alias(REASON_CODES)).to_series()


def _strongest(contributions: Matrix, top: int) -> Order:
    """Indexes (rows, top) of the largest contributions by size, the first of equals first."""
    size = np.abs(contributions)
    order = np.empty((size.shape[0], top), dtype=np.int64)
    rows = np.arange(size.shape[0])
    for slot in range(top):
        order[:, slot] = size.argmax(axis=1)
        # Below 0, so that a feature is not taken again where only zeros are left.
        size[rows, order[:, slot]] = -1.0
    return order


def _phrases(values: pl.Series, contributions: Matrix, title: str) -> pl.Series:
    """`title = value (+0.32)` a row, null where the contribution is 0."""
    amounts = pl.Series([_signed(amount) for amount in contributions.tolist()], dtype=pl.String)
    phrase = pl.concat_str(pl.lit(f"{title} = "), _readable(values), pl.lit(" ("), amounts, pl.lit(")"))
    return pl.select(pl.when(pl.Series(contributions != 0)).then(phrase).alias("text")).to_series()


def _signed(amount: float) -> str:
    """Two decimals, or one digit where those would be zeros."""
    return f"{amount:+.2f}" if abs(amount) >= 0.01 else f"{amount:+.1g}"


def _readable(values: pl.Series) -> pl.Series:
    """Values as text: yes and no, floats with up to four significant digits, a missing value as none."""
    if values.dtype == pl.Boolean:
        text = pl.select(pl.when(values).then(pl.lit("yes")).when(~values).then(pl.lit("no"))).to_series()
    elif values.dtype.is_float():
        numbers = values.cast(pl.Float64).fill_nan(None).to_list()
        text = pl.Series([None if number is None else _rounded(number) for number in numbers], dtype=pl.String)
    else:
        text = values.cast(pl.String)
    return text.fill_null("none")


def _rounded(number: float) -> str:
    """Up to four significant digits; powers of ten only from 1e16 on and below 0.0001."""
    text = f"{number:.4g}"
    if "e+" in text and abs(number) < 1e16:
        return str(int(float(text)))
    return "0" if text == "-0" else text
