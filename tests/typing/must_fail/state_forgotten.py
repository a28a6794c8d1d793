"""Whoever handles the states of a cover handles all of them."""

from __future__ import annotations

from typing import assert_never

from m2fp_stream.core.plan import CoverState, Parsed, Propagated, Unknown


def forgets_unknown(state: CoverState) -> bool:
    covered = False
    match state:  # E: exhaustive-match reportMatchNotExhaustive
        case Parsed() | Propagated():
            covered = True
    return covered


def forgets_propagated(state: CoverState) -> bool:
    match state:
        case Parsed():
            return True
        case Unknown():
            return False
        case _:
            assert_never(state)  # E: arg-type reportArgumentType
