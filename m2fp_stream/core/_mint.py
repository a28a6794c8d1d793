"""The keys without which what sinks take cannot be made.

`COMPOSED` may be imported by `compositor.compose` alone, `AUDIBLE` by `privacy.audio`, `LOCATED` by
`privacy.tracks`; the import contracts in `pyproject.toml` and `tests/gates` hold this. `core.safe`
checks them.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["AUDIBLE", "COMPOSED", "LOCATED", "Key"]


@final
class Key:
    """An object that proves, by identity, who constructs a sealed type."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __init_subclass__(cls) -> None:
        raise TypeError("Key is final")

    def __repr__(self) -> str:
        return f"Key({self._name})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a key cannot be copied or pickled")


AUDIBLE: Final = Key("audible")
COMPOSED: Final = Key("composed")
LOCATED: Final = Key("located")
