"""Lost references: whatever smears without them is never given, and nothing intact is refused."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from m2fp_stream.core.errors import TruncatedSourceError
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.options import FileOptions
from m2fp_stream.sources.whole import Wholeness
from tests.kit import media, oddities
from tests.kit.texture import marker

SIZE_WH = (128, 96)
COUNT = 70
SALVAGE = FileOptions(salvage=True)

X265 = "log-level=none:scenecut=0:pools=none:frame-threads=1"
ENCODINGS: dict[str, tuple[str, dict[str, str]]] = {
    "camera": ("libx264", {"tune": "zerolatency", "g": "25"}),
    "plain": ("libx264", {"bf": "0", "g": "25"}),
    "pyramid": ("libx264", {"bf": "3", "b-pyramid": "normal", "g": "25", "sc_threshold": "0"}),
    "open": ("libx264", {"x264-params": "open-gop=1:bframes=3:keyint=20:scenecut=0"}),
    "weights": ("libx264", {"x264-params": "weightp=2:ref=5:bframes=4:keyint=30"}),
    "slices": ("libx264", {"x264-params": "slices=3:bframes=2:keyint=25"}),
    "interlaced": ("libx264", {"x264-params": "tff=1:bframes=2:keyint=25"}),
    "refresh": ("libx264", {"x264-params": "intra-refresh=1:bframes=0:keyint=20"}),
    "refresh with B": ("libx264", {"x264-params": "intra-refresh=1:bframes=2:keyint=20"}),
    "I that is no key": ("libx264", {"x264-params": "keyint=60:min-keyint=30:scenecut=400"}),
    "HEVC": ("libx265", {"x265-params": f"{X265}:keyint=25:bframes=3:open-gop=0"}),
    "HEVC open": ("libx265", {"x265-params": f"{X265}:keyint=20:bframes=4:open-gop=1"}),
    "HEVC slices": ("libx265", {"x265-params": f"{X265}:keyint=25:bframes=2:slices=2"}),
    "HEVC refresh": ("libx265", {"x265-params": f"{X265}:keyint=20:bframes=0:intra-refresh=1"}),
    "HEVC layers": ("libx265", {"x265-params": f"{X265}:keyint=25:bframes=3:temporal-layers=3"}),
}


def moving(count: int = COUNT) -> Iterator[media.BGR]:
    """A texture that moves, and something else that moves over it: all is made from references."""
    width, height = SIZE_WH
    ground, spot = marker(1, height, width), marker(2, 32, 32)
    for number in range(count):
        picture = np.roll(ground, (number, 2 * number), axis=(0, 1))
        at = 3 * number % (width - 32)
        picture[20:52, at : at + 32] = spot
        yield picture


def film(path: Path, name: str) -> Path:
    codec, options = ENCODINGS[name]
    return media.write_video(
        path,
        frames=moving(),
        size_wh=SIZE_WH,
        codec=codec,
        options={"preset": "veryfast"} | options,
    )


def shown(path: Path) -> list[bytes]:
    """What a player shows."""
    with av.open(path) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


def judged(path: Path) -> list[tuple[bytes, bool]]:
    """Every picture, and whether it is called whole."""
    found = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "AUTO", 2
        wholeness = Wholeness.of(stream, joining=False)
        for packet in container.demux(stream):
            wholeness.take(packet)
            for frame in stream.decode(packet):
                found.append((frame.to_ndarray().tobytes(), wholeness.whole(frame)))
    return found


def given(path: Path, options: FileOptions | None = None) -> tuple[list[bytes], tuple[str, ...]]:
    """The pictures of a `FileSource`, and its warnings."""
    found = []
    with FileSource(path, options) as source:
        for captured in source.frames():
            with captured.frame.analysis() as bgr:
                found.append(bgr.tobytes())
            captured.frame.release()
        return found, source.info.warnings


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
@pytest.mark.parametrize("name", ENCODINGS)
def test_every_picture_that_smears_without_a_reference_is_left_out(
    tmp_path: Path, name: str, suffix: str
) -> None:
    path = film(tmp_path / f"film.{suffix}", name)
    intact, (ours, _) = set(shown(path)), given(path)
    assert len(ours) == COUNT
    smeared = smeared_for_players = 0
    for lost in range(1, COUNT - 5, 7):
        copy = oddities.without(path, tmp_path / f"lost.{suffix}", {lost})
        pictures = judged(copy)
        smears = [whole for picture, whole in pictures if picture not in intact]
        assert not any(smears), f"packet {lost}: {sum(smears)} of {len(smears)} smeared ones pass"
        smeared += len(smears)
        smeared_for_players += sum(picture not in intact for picture in shown(copy))
        if smears:
            with pytest.raises(TruncatedSourceError, match=r"damaged or cut short.*--salvage"):
                given(copy)
        salvaged, warnings = given(copy, SALVAGE)
        # The deinterlacer looks at neighbours, and those are others.
        assert name == "interlaced" or set(salvaged) <= set(ours)
        assert len(salvaged) == sum(whole for _, whole in pictures)
        if smears:
            assert any("pictures left out" in one for one in warnings)
    assert smeared
    # The control: without this, H.264 shows them.
    assert smeared_for_players or name.startswith("HEVC")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("name", ["pyramid", "HEVC"])
def test_a_lost_picture_that_no_other_needs_harms_none_and_is_no_damage(
    tmp_path: Path, name: str, suffix: str
) -> None:
    path = film(tmp_path / "film.mp4", name)
    ours, _ = given(path)
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    unneeded = [number for number, packet in enumerate(packets) if needed_by_none(packet)]
    lost = unneeded[len(unneeded) // 2]
    copy = oddities.without(path, tmp_path / f"lost.{suffix}", {lost})
    pictures, warnings = given(copy)
    times = [packet.pts for packet in packets]
    gone = sorted(one for one in times if one is not None).index(times[lost] or 0)
    assert pictures == ours[:gone] + ours[gone + 1 :]
    assert warnings == ()
    # The control: of the same film, one that others need.
    needed = next(one for one in range(lost + 1, COUNT) if one not in unneeded)
    with pytest.raises(TruncatedSourceError):
        given(oddities.without(path, tmp_path / f"lost.{suffix}", {needed}))


def needed_by_none(packet: Any) -> bool:
    """What its last NAL unit says: nal_ref_idc 0 (ITU-T H.264, 7.4.1); an even type below 16, with
    one temporal layer (ITU-T H.265, 7.4.2.2)."""
    data, at, unit = bytes(packet), 0, b""
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        unit, at = data[at + 4 : at + 4 + length], at + 4 + length
    if packet.stream.codec_context.name == "h264":
        return not unit[0] & 96
    return unit[0] >> 1 < 16 and unit[0] >> 1 & 1 == 0


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv", "h264"])
@pytest.mark.parametrize("name", [one for one in ENCODINGS if not one.startswith("HEVC")])
def test_an_intact_film_is_not_refused(tmp_path: Path, name: str, suffix: str) -> None:
    pictures, warnings = given(film(tmp_path / f"film.{suffix}", name))
    assert len(pictures) == COUNT
    assert [one for one in warnings if "timestamp" not in one] == []


@pytest.mark.parametrize("name", [one for one in ENCODINGS if not one.startswith("HEVC")])
def test_an_intact_film_with_holes_in_time_is_not_refused(tmp_path: Path, name: str) -> None:
    """A camera that leaves out frames in the dark, or a recorded screen, makes such."""
    codec, options = ENCODINGS[name]
    times, moment = [], 0
    for number in range(3 * COUNT):
        times.append(moment)
        moment += 1 + number % 3 + 7 * (number % 5 == 0)
    path = media.write_video(
        tmp_path / "film.mp4",
        frames=moving(len(times)),
        pts=times,
        size_wh=SIZE_WH,
        codec=codec,
        options={"preset": "veryfast"} | options,
    )
    assert len(given(path)[0]) == len(times)


def left_out_numbers(path: Path, *, allowed: bool) -> Path:
    """Writes I pictures of which every third is missing, and whether their stream allows that.

    A server that leaves out a layer of frames for a slow client sends the like.
    """
    whole = path.with_suffix(".whole.h264")
    with av.open(whole, "w", format="h264") as container:
        options = {"profile": "main", "x264-params": "keyint=infinite:open-gop=1:bframes=1"}
        stream: Any = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE_WH, "yuv420p"
        for picture in moving(30):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pict_type = PictureType.I
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    kept: list[bytes] = []
    of_picture: list[bytes] = []
    pictures = 0
    for unit in whole.read_bytes().split(b"\0\0\1")[1:]:
        kind = unit[0] & 31
        of_picture.append(allowing_gaps(unit) if kind == 7 and allowed else unit.rstrip(b"\0"))
        if kind in (1, 5):
            pictures += 1
            kept += of_picture if pictures % 3 else []
            of_picture = []
    path.write_bytes(b"".join(b"\0\0\0\1" + unit for unit in kept))
    return path


def allowing_gaps(unit: bytes) -> bytes:
    """Sets gaps_in_frame_num_value_allowed_flag (ITU-T H.264, 7.3.2.1.1) in a main stream's."""
    bits = "".join(f"{byte:08b}" for byte in unit.rstrip(b"\0"))
    at, values = 32, []
    for _ in range(5):  # its id, bits of numbers, kind of order, bits of that, references
        zeros = bits.index("1", at) - at
        values.append(int(bits[at + zeros : at + 2 * zeros + 1], 2) - 1)
        at += 2 * zeros + 1
    assert values[2] == 0, "another kind of order has other fields"
    assert bits[at] == "0"
    bits = bits[:at] + "1" + bits[at + 1 :]
    return bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))


def test_numbers_that_a_stream_may_leave_out_are_no_loss(tmp_path: Path) -> None:
    pictures, _ = given(left_out_numbers(tmp_path / "layer.h264", allowed=True))
    assert len(pictures) == 20
    with pytest.raises(TruncatedSourceError):
        given(left_out_numbers(tmp_path / "lost.h264", allowed=False))


@pytest.mark.parametrize("name", ["open", "pyramid", "HEVC open", "refresh"])
def test_a_recording_that_was_joined_midway_is_read_from_where_it_is_whole(
    tmp_path: Path, name: str
) -> None:
    path = film(tmp_path / "film.ts", name)
    intact, _ = given(path)
    for first in (3, 20, 23):
        pictures, _ = given(oddities.without(path, tmp_path / "late.ts", range(first)))
        assert pictures
        assert set(pictures) <= set(intact)


def test_a_lost_key_frame_whose_number_would_fit_is_told_by_its_references(tmp_path: Path) -> None:
    """Numbers are modulo 16 here, and 17 references come from one key frame to the next."""
    path = media.write_video(
        tmp_path / "film.mp4",
        frames=moving(),
        size_wh=SIZE_WH,
        options={"g": "17", "bf": "0", "sc_threshold": "0"},
    )
    intact = set(shown(path))
    pictures = judged(oddities.without(path, tmp_path / "lost.mp4", {34}))
    assert [whole for picture, whole in pictures if picture not in intact] == [False] * 16


@pytest.mark.parametrize("how", ["first", "middle", "last", "cut short", "a hole"])
@pytest.mark.parametrize("at", [12, 25])
def test_an_h264_picture_of_which_a_part_is_missing_is_damage(
    tmp_path: Path, how: str, at: int
) -> None:
    path = film(tmp_path / "film.mp4", "slices")
    intact = set(shown(path))
    found = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "AUTO", 2
        wholeness = Wholeness.of(stream, joining=False)
        for number, packet in enumerate(container.demux(stream)):
            if number == at:
                packet = broken(packet, how)
            wholeness.take(packet)
            with suppress(av.error.InvalidDataError):
                for frame in stream.decode(packet):
                    found.append((frame.to_ndarray().tobytes(), wholeness.whole(frame)))
    smears = [whole for picture, whole in found if picture not in intact]
    assert smears
    # Those that are shown before the damaged picture, but made from it, come before its mark.
    assert sum(smears) <= (how in ("cut short", "a hole", "middle", "last")) * 2


def broken(packet: Any, how: str) -> Any:
    """Leaves out one of a packet's slices, or part of one."""
    data, at, units = bytes(packet), 0, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        units.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    slices = [number for number, unit in enumerate(units) if unit[0] & 31 in (1, 5)]
    assert len(slices) == 3
    one = slices[{"first": 0, "middle": 1, "last": 2}.get(how, 1)]
    third = len(units[one]) // 3
    if how == "cut short":
        units[one] = units[one][: 2 * third]
    elif how == "a hole":
        units[one] = units[one][:third] + units[one][2 * third :]
    else:
        del units[one]
    copy = av.Packet(b"".join(len(unit).to_bytes(4, "big") + unit for unit in units))
    copy.stream, copy.time_base = packet.stream, packet.time_base
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    return copy


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("name", ["camera", "pyramid", "open", "slices"])
def test_salvage_leaves_out_what_is_made_from_a_damaged_picture(
    tmp_path: Path, name: str, threads: int
) -> None:
    """Also what is shown before it. A hole in a small picture may decode without a complaint."""
    noticed = 0
    path = film(tmp_path / "film.mp4", name)
    ours = set(given(path)[0])
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for number in range(10, COUNT - 10, 7):
        at, size = packets[number].pos, packets[number].size
        assert at is not None
        damaged = bytearray(data)
        damaged[at + size // 3 : at + size] = b"\xff" * (size - size // 3)
        path.write_bytes(bytes(damaged))
        try:
            given(path, FileOptions(threads=threads))
        except TruncatedSourceError:
            noticed += 1
        else:
            continue
        pictures, warnings = given(path, FileOptions(threads=threads, salvage=True))
        assert len(pictures) > 10
        assert set(pictures) <= ours, number
        assert warnings[0].startswith("the file is damaged")
    assert noticed >= 5


@pytest.mark.parametrize("name", ["camera", "pyramid", "slices", "HEVC", "HEVC open"])
def test_what_a_transport_stream_lost_within_a_picture_is_not_salvaged(
    tmp_path: Path, name: str
) -> None:
    """Its counter tells, one picture early; of the first picture it tells nobody."""
    path = film(tmp_path / "film.ts", name)
    ours = set(given(path)[0])
    data = path.read_bytes()
    cells = [data[at : at + 188] for at in range(0, len(data), 188)]
    video = [i for i, cell in enumerate(cells) if (cell[1] & 0x1F) << 8 | cell[2] == 0x100]
    second = [i for i in video if cells[i][1] & 0x40][1]
    players = 0
    for seed in range(4):
        rng = random.Random(seed)
        gone = set(rng.sample([i for i in video if i > second], 3))
        copy = tmp_path / "lossy.ts"
        copy.write_bytes(b"".join(cell for i, cell in enumerate(cells) if i not in gone))
        with pytest.raises(TruncatedSourceError):
            given(copy)
        assert set(given(copy, SALVAGE)[0]) <= ours
        players += len(set(shown(copy)) - set(shown(path)))
    assert players, "the control"


def test_another_film_that_is_read_meanwhile_takes_no_mark_away(tmp_path: Path) -> None:
    """What goes with a packet through the decoder must be its own; small numbers are shared."""
    path = film(tmp_path / "film.ts", "HEVC")
    ours = set(given(path)[0])
    data = path.read_bytes()
    cells = [data[at : at + 188] for at in range(0, len(data), 188)]
    video = [i for i, cell in enumerate(cells) if (cell[1] & 0x1F) << 8 | cell[2] == 0x100]
    second = [i for i in video if cells[i][1] & 0x40][1]
    for seed in range(4):
        gone = set(random.Random(seed).sample([i for i in video if i > second], 3))
        copy = tmp_path / "lossy.ts"
        copy.write_bytes(b"".join(cell for i, cell in enumerate(cells) if i not in gone))
        marked = given(copy, SALVAGE)[0]
        with FileSource(path) as other:
            meanwhile = other.frames()
            shown: list[bytes] = []
            with FileSource(copy, SALVAGE) as source:
                for captured in source.frames():
                    with captured.frame.analysis() as bgr:
                        shown.append(bgr.tobytes())
                    captured.frame.release()
                    for one in islice(meanwhile, 2):
                        one.frame.release()
        assert shown == marked
        assert set(shown) <= ours
