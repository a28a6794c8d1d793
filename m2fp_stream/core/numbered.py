"""Numbered files: what ``frames/%06d.png`` means, and which of them there are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, final

__all__ = ["Numbered"]

_NUMBER: Final = re.compile(r"%(?:0(\d{1,2}))?d")


@final
@dataclass(frozen=True, slots=True)
class Numbered:
    """Files of one folder whose names differ in a number only.

    Attributes:
        folder: where they are.
        before: what their names have in front of the number.
        digits: how many it has at least, with zeros in front.
        after: what their names have behind it.
    """

    folder: Path
    before: str
    digits: int
    after: str

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Returns what a path with one ``%d`` or ``%06d`` in its name means; None: it has none."""
        numbers = list(_NUMBER.finditer(path.name))
        if len(numbers) != 1:
            return None
        (number,) = numbers
        name = path.name
        return cls(path.parent, name[: number.start()], int(number[1] or 1), name[number.end() :])

    def path(self, number: int) -> Path:
        """Returns the file of a number."""
        return self.folder / f"{self.before}{number:0{self.digits}d}{self.after}"

    def found(self) -> dict[int, Path]:
        """Returns the files that are there, by number, the lowest first.

        Raises:
            OSError: the folder cannot be listed.
        """
        numbers: list[int] = []
        for entry in self.folder.iterdir():
            name = entry.name
            middle = name[len(self.before) : len(name) - len(self.after)]
            if middle.isascii() and middle.isdecimal() and self.path(int(middle)).name == name:
                numbers.append(int(middle))
        return {number: self.path(number) for number in sorted(numbers)}
