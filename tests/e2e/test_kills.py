"""What a run leaves that is killed outright; `scripts/bench/kills.py` does so 200 times."""

from __future__ import annotations

import random
from pathlib import Path

import av
import pytest

from m2fp_stream.core.part_file import part_name
from scripts.bench import kills


def test_a_run_that_is_killed_leaves_nothing_uncovered_and_nobody_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kills, "COUNT", 12)
    clip, target = kills.write_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    took_s, header = kills.run_whole(clip, target)
    draw = random.Random(5)
    for number in range(5):
        after_s = took_s * (number + draw.random()) / 5
        everything = number == 3
        if kills.kill_once(clip, target, after_s, everything=everything) == "killed":
            left = kills.remnant(target, header)
            assert everything or left == "nothing"
    kills.run_whole(clip, target)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in.mp4", "temporary"]


def test_an_uncovered_part_file_would_be_noticed(tmp_path: Path) -> None:
    clip, target = kills.write_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    with av.open(str(clip)) as container:
        header = container.streams.video[0].codec_context.extradata
    assert header is not None
    assert kills.remnant(target, header) == "nothing"
    part_name(target).write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(AssertionError, match="the covered half varies by"):
        kills.remnant(target, header)
    part_name(target).write_bytes(b"")
    assert kills.remnant(target, header) == "an empty part file"
