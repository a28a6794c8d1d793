"""Light of HDR, as PQ codes, to codes of SDR: what is bright stays apart, all else as it was."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["PQ_CODES", "sdr_of_pq"]

PQ_CODES: Final = 1024
"""Of 10 bits, full range. Source: ITU-R BT.2100, table 4 (PQ), which has no fewer."""

_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_LIGHTEST: Final = 10_000.0
"""PQ's curve; cd/m2 of its highest code. Source: ITU-R BT.2100, table 4 (SMPTE ST 2084)."""

_WHITE: Final = 203.0
"""cd/m2 that are white in SDR. Source: ITU-R BT.2408, 2.1 (HDR reference white)."""

_PEAK: Final = 1000.0
"""cd/m2 beyond which all is white: the nominal peak of HLG's display (ITU-R BT.2100, table 5, note
5e), to which PQ is mostly mastered, too (ITU-R BT.2408, 6.2). What a film says of its own peak is
not asked: it may change from picture to picture, and what was graded must not."""

_GAMMA: Final = 2.4
"""Of SDR displays. Source: ITU-R BT.1886, annex 1."""


@cache
def sdr_of_pq() -> NDArray[np.uint8]:
    """Returns the code of SDR, 0 to 255, of each PQ code of one colour; read-only.

    The light stays what it was up to 86 cd/m2, and rolls off from there, so that 1000 becomes
    white. Source: ITU-R BT.2390, 5.4.1 (EETF), for each colour in BT.709's primaries, black at 0.
    """
    top = _pq_of(_PEAK)
    codes = np.linspace(0, 1, PQ_CODES) / top
    light = np.minimum(_light_of(_rolled_off(np.minimum(codes, 1)) * top), _WHITE)
    table = np.rint(255 * (light / _WHITE) ** (1 / _GAMMA)).astype(np.uint8)
    table.flags.writeable = False
    return table


def _rolled_off(codes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The EETF, of PQ codes in units of that of the source's peak."""
    highest = _pq_of(_WHITE) / _pq_of(_PEAK)
    knee = 1.5 * highest - 0.5
    t = (codes - knee) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * highest
    )
    return np.where(codes < knee, codes, spline)


def _pq_of(light: float) -> float:
    power = (light / _LIGHTEST) ** _M1
    return float(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def _light_of(codes: NDArray[np.float64]) -> NDArray[np.float64]:
    power = codes ** (1 / _M2)
    light: NDArray[np.float64] = np.maximum(power - _C1, 0) / (_C2 - _C3 * power)
    return _LIGHTEST * light ** (1 / _M1)
