"""Numbers over time as a line of blocks, as many rows high as there is room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Shades of one cell from empty to full.
_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = " .#"
#: A time without an answer.
_GAP = "x"
#: A time before the first look.
NOTHING = -1


def chart(values: Sequence[int | None], top: int, rows: int, *, unicode: bool) -> list[str]:
    """Return rows of text, the highest first; `top` fills them all.

    None is a gap, and shown as one; `NOTHING` is left blank. Whatever is above 0 is seen.
    """
    shades = _BLOCKS if unicode else _ASCII
    columns = [_column(value, max(1, top), rows, shades) for value in values]
    return ["".join(column[row] for column in columns) for row in reversed(range(rows))]


def over_time(
    points: Iterable[tuple[float, int | None]], *, now: float, width: int, step_s: float
) -> list[int | None]:
    """Return `width` values up to `now`, one for each `step_s` seconds: the most of each.

    What nobody looked at in between is as it was seen before; a peak is never lost.
    """
    last = int(now // step_s)
    seen: dict[int, list[int | None]] = {}
    before: int | None = NOTHING
    for at, value in points:
        column = int(at // step_s) - last + width - 1
        if column < 0:
            before = value
        elif column < width:
            seen.setdefault(column, []).append(value)
    values: list[int | None] = []
    for column in range(width):
        known = [value for value in seen.get(column, ()) if value is not None]
        values.append(max(known) if known else (None if column in seen else before))
        before = seen[column][-1] if column in seen else before
    return values


def _column(value: int | None, top: int, rows: int, shades: str) -> str:
    """Return the cells of one value, the lowest first."""
    if value is None:
        return _GAP + " " * (rows - 1)
    full = len(shades) - 1
    most = rows * full
    level = 0 if value <= 0 else max(1, min(most, round(value * most / top)))
    return "".join(shades[max(0, min(full, level - row * full))] for row in range(rows))
