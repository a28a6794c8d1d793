"""What is read inside a lease only: raw pixels, raw sound."""

from __future__ import annotations

from typing import ClassVar, Never

from .errors import LeaseError

__all__ = ["Leased"]


class Leased:
    """Refuses to become an array, a buffer, an iterator, a copy or a pickle."""

    __slots__ = ()

    _how: ClassVar[str]
    """What may be read, and inside which block."""

    def _refuse(self, *_: object, **__: object) -> Never:
        raise LeaseError(f"{self._how} only")

    __array__ = __array_interface__ = __iter__ = __len__ = __getitem__ = _refuse
    __copy__ = __deepcopy__ = __bytes__ = _refuse

    def __reduce__(self) -> Never:
        self._refuse()

    def __reduce_ex__(self, protocol: object) -> Never:
        self._refuse()
