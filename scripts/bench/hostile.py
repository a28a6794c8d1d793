"""Prints how the page's server takes hostile requests.

    python -m scripts.bench.hostile [--generated N] [--json FILE]

The attacks are those of tests/chaos/web_attacks.py, all against a server of its own on 127.0.0.1;
the table says what was sent, how it was answered, whether the server lived on and went on showing
pictures, and the memory of its process. 10 000 generated requests take some minutes.
"""

from __future__ import annotations

from tests.chaos.web_attacks import main

if __name__ == "__main__":
    raise SystemExit(main())
