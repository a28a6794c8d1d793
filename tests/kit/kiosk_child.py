"""A process to be supervised; its job says how it behaves.

``job["acts"]`` has an act for each start, the last one for all later ones:

    beat      beats five times a second, answers {"kind": "echo"} with what it got, ends by SIGTERM
    deaf      as beat, but SIGTERM does nothing
    die       ends with code 3
    crash     beats, then ends with code 3
    silent    beats once, then says nothing more
    mute      never beats
    stuck     says that it starts, then nothing more
    slow      says for ``job["slow_s"]`` that it starts, then behaves as beat
    error     says an error, with ``job["exit_code"]``
    ended     says that nothing is left to do
    chatter   says nonsense, then behaves as beat
    page      as the page's server: is ready, knows every code at once, and its beats say what the
              last {"kind": "wall", "wall": ..., "here": ...} said
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from typing import Any

BEAT_S = 0.2


def main() -> int:
    channel = socket.socket(fileno=int(sys.argv[1]))
    job = json.load(sys.stdin)
    act = job["acts"][min(job["start"], len(job["acts"]) - 1)]

    def say(**message: Any) -> None:
        channel.send(json.dumps(message).encode())

    if act == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(kind="hello", start=job["start"], argv=sys.argv[2:], environ=dict(os.environ))
    if act == "die":
        return 3
    if act == "error":
        say(kind="error", text="this cannot work", exit_code=job["exit_code"])
        return int(job["exit_code"])
    if act == "mute":
        time.sleep(60)
    if act == "stuck":
        say(kind="starting")
        time.sleep(60)
    if act == "slow":
        works_s = time.monotonic() + job["slow_s"]
        while time.monotonic() < works_s:
            say(kind="starting")
            time.sleep(BEAT_S)
    if act == "chatter":
        for nonsense in (b"", b"\xff\xfe", b"[1]", b'{"kind": 3}', b'{"kind": "error"}'):
            if nonsense:
                channel.send(nonsense)
    say(kind="beat")
    if act == "crash":
        return 3
    if act == "ended":
        say(kind="ended")
        return 0
    if act == "silent":
        time.sleep(60)
    channel.settimeout(BEAT_S)
    about: dict[str, Any] = {}
    if act == "page":
        about = {"asleep": False, "wall": job.get("wall"), "here": False}
        say(kind="ready")
    while True:
        try:
            data = channel.recv(65536)
            if not data:
                return 0
            got = json.loads(data)
            say(kind="echo", got=got)
            if act == "page" and got["kind"] == "code":
                say(kind="coded", code=got["code"])
            elif act == "page" and got["kind"] == "wall":
                about |= {"wall": got["wall"], "here": got["here"]}
        except TimeoutError:
            say(kind="beat", **about)


if __name__ == "__main__":
    sys.exit(main())
