"""One file of a batch, in a process of its own.

Started by `cli.batch` as ``python -P -m m2fp_stream.cli.child``. Its job by standard input, as
JSON: see `FileTask.as_json`, and ``debug``. It says on stdout and stderr what the program says of
one file, and ends with that file's exit code. Ctrl-C is the batch's to handle, and to tell.
"""

from __future__ import annotations

import sys

from .interrupts import until_interrupted

__all__ = ["main"]


def main(*, last: bool = False) -> int:
    """Does what standard input says; returns the exit code. For `last` see `until_interrupted`."""
    return until_interrupted(lambda: _work(last=last), told=False, last=last)


def _work(*, last: bool) -> int:
    from ..privacy.hardening import harden, keep_to_one_thread

    harden()
    if last:
        keep_to_one_thread()
    from ..processes.child import read_job
    from .files import FileTask
    from .program import carry_out

    told = read_job()

    def work() -> None:
        task = FileTask.from_json(told)
        if last:
            task.shut_in()
        task.run()

    return carry_out(work, debug=told["debug"])


if __name__ == "__main__":
    sys.exit(main(last=True))
