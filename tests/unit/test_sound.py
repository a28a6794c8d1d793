"""The sound of files: at its exact place, cut exactly, silent or disguised where asked."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from m2fp_stream.app.files import SoundTrack
from m2fp_stream.core.audio import AudioFormat
from m2fp_stream.core.errors import SourceError, TruncatedSourceError
from m2fp_stream.privacy.audio import AudioOptions
from m2fp_stream.sinks.encoders import VideoFileOptions
from m2fp_stream.sinks.video_file import VideoFileSink
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.options import FileOptions
from m2fp_stream.sources.sound import FileClock, SoundSource
from tests.kit import media, sound
from tests.kit.sound import voice, write_film

ONE_FRAME_S = 1024 / 48000
"""An AAC frame at 48 kHz: by so much sound may lie apart from the picture, at most."""
FROM_0 = FileClock(Fraction(0), Fraction(0))


def passed(path: Path, audio: AudioOptions, out: Path, **options: Any) -> SoundTrack:
    """Writes what a run would, with cards for pictures."""
    given = FileOptions(**options)
    with FileSource(path, given) as source, SoundSource(path, given, source.clock) as read:
        assert read.format is not None
        clock, info = source.clock, source.info
        track = SoundTrack(read, read.format, audio, clock.zero_s - clock.origin_s)
        fast = VideoFileOptions(preset="ultrafast")
        with VideoFileSink(
            out, size_wh=(96, 64), time_base=info.time_base, sound=read.format, options=fast
        ) as sink:
            for captured in source.frames():
                frame = captured.frame
                for stretch in track.until(frame.pts * frame.time_base):
                    sink.write_audio(stretch)
                card = media.card((96, 64), frame.frame_id)
                sink.write(media.composed(card, frame.frame_id, frame.pts, frame.time_base))
                frame.release()
            for stretch in track.until(None):
                sink.write_audio(stretch)
            sink.finish()
        return track


Write = Callable[[Path], Path]


def _film(*sounds: sound.Samples, **options: Any) -> Write:
    return lambda path: write_film(path, sounds, **options)


def _edited(path: Path) -> Path:
    return sound.patch_edit(write_film(path, [voice(2, 48000)]), 1, 1024 + 24000)


VARIABLE = [0, 40, 41, 100, 400, 1000, 1001, 2900]
CLIPS: dict[str, Write] = {
    "plain.mp4": _film(voice(2, 48000)),
    "late.mp4": _film(voice(2, 44100), rate=44100, start_s=0.37),
    "before.mp4": _film(voice(2, 48000), start_s=-0.4),
    "picture_late.mkv": _film(voice(3, 48000), video_pts=range(20, 70)),
    "picture_later.mp4": _film(voice(3, 48000), video_pts=range(20, 70)),
    "edit.mp4": _edited,
    "variable.mp4": _film(
        voice(3, 32000), rate=32000, video_pts=VARIABLE, video_base=Fraction(1, 1000)
    ),
    "mono.mkv": _film(voice(2, 16000), rate=16000, layout="mono", start_s=0.21),
    "opus.mkv": _film(voice(2, 48000), codec="libopus", sample_format="flt", start_s=0.1),
    "mp3.mkv": _film(voice(2, 44100), rate=44100, codec="libmp3lame"),
    "pcm.mov": _film(
        voice(2, 22050), rate=22050, codec="pcm_s16le", sample_format="s16", start_s=0.5
    ),
    "clock.ts": _film(voice(2, 48000), start_s=0.3),
    "flash.flv": _film(voice(2, 44100), rate=44100, start_s=0.2),
    "old.avi": _film(voice(2, 44100), rate=44100, codec="libmp3lame"),
    "surround.mkv": _film(voice(2, 48000), codec="flac", sample_format="s16", layout="5.1"),
    "fine.mkv": _film(voice(2, 192000), rate=192000, codec="pcm_s16le", sample_format="s16"),
    "gap.mkv": _film(voice(3, 48000), gaps=[(1.0, 1.5)]),
}


@pytest.mark.parametrize("name", CLIPS)
def test_sound_that_is_kept_stays_where_it_was(name: str, tmp_path: Path) -> None:
    path = CLIPS[name](tmp_path / name)
    passed(path, AudioOptions(mode="keep"), tmp_path / "out.mp4")
    lag_s, height = sound.lag_s(sound.heard(path), sound.heard(tmp_path / "out.mp4"))
    assert height > 0.95, "not the same sound"
    assert abs(lag_s) <= 0.002  # measured: 0.0 ms; 21 are allowed


def test_the_measure_finds_a_lag(tmp_path: Path) -> None:
    early = write_film(tmp_path / "a.mp4", [voice(2, 48000)])
    late = write_film(tmp_path / "b.mp4", [voice(2, 48000)], start_s=0.03)
    assert sound.lag_s(sound.heard(early), sound.heard(late))[0] == pytest.approx(0.03, abs=0.001)


@pytest.mark.parametrize("name", ["plain.mp4", "late.mp4", "edit.mp4", "mono.mkv"])
def test_a_disguised_voice_stays_where_it_was_and_is_another(name: str, tmp_path: Path) -> None:
    path = CLIPS[name](tmp_path / name)
    passed(path, AudioOptions(mode="disguise"), tmp_path / "out.mp4")
    before, after = sound.heard(path), sound.heard(tmp_path / "out.mp4")
    assert sound.lag_s(before, after)[1] < 0.5, "it is the same"
    loud = sound.envelope(before), sound.envelope(after)
    lag_s, height = sound.lag_s(*loud, rate=1000)
    assert height > 0.9
    assert abs(lag_s) <= ONE_FRAME_S  # measured over rates and shifts: 16 ms early


def test_a_long_disguise_does_not_drift(tmp_path: Path) -> None:
    path = write_film(
        tmp_path / "a.mkv", [voice(60, 16000)], rate=16000, layout="mono", video_pts=range(0, 1500)
    )
    passed(path, AudioOptions(mode="disguise"), tmp_path / "out.mp4")
    before, after = sound.heard(path)[-10 * 48000 :], sound.heard(tmp_path / "out.mp4")
    after = after[len(sound.heard(path)) - 10 * 48000 :]
    assert abs(sound.lag_s(sound.envelope(before), sound.envelope(after), rate=1000)[0]) <= 0.021


def test_start_and_end_cut_sound_with_the_picture(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.ts"):
        path = write_film(tmp_path / name, [voice(8, 48000)], video_pts=range(200), start_s=0.1)
        passed(path, AudioOptions(mode="keep"), tmp_path / "out.mp4", start_s=4.013, end_s=6.5)
        # The output's time 0 is the moment of the cut; its first picture comes up to a frame later.
        with av.open(tmp_path / "out.mp4") as container:
            stream = container.streams.video[0]
            first = next(container.decode(video=0))
            assert first.pts is not None
            assert stream.time_base is not None
            picture_s = float(first.pts * stream.time_base)
        after = sound.heard(tmp_path / "out.mp4")
        before = sound.heard(path)[round((4.013 + picture_s) * 48000) : round(6.5 * 48000)]
        lag_s, height = sound.lag_s(before, after)
        assert height > 0.95, name
        assert abs(lag_s) <= 0.002, name
        assert len(after) / 48000 + picture_s == pytest.approx(6.5 - 4.013, abs=ONE_FRAME_S * 2)
        (tmp_path / "out.mp4").unlink()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize("start_s", [2.5, 6, 9])
def test_sound_that_ends_before_the_start_point_is_none_and_that_is_said(
    name: str, start_s: float, tmp_path: Path
) -> None:
    path = write_film(tmp_path / name, [voice(2, 48000)], video_pts=range(250))
    given = FileOptions(start_s=start_s)
    with FileSource(path, given) as source, SoundSource(path, given, source.clock) as read:
        assert read.format is None
        assert len(read.warnings) == 1
        assert list(read.chunks()) == []


def test_muted_spans_are_silent_and_the_rest_is_not(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", [voice(4, 48000)], video_pts=range(100))
    mute = AudioOptions(mode="keep", mute=("0-0.5", "1.5-2.25"))
    passed(path, mute, tmp_path / "out.mp4")
    before, after = sound.heard(path), sound.heard(tmp_path / "out.mp4")
    for begin, end in ((0, 0.5), (1.5, 2.25)):
        # What follows is encoded with it: a frame may ring before its beginning.
        quiet = after[round(begin * 48000) + 1024 : round(end * 48000) - 1024]
        assert np.abs(quiet).max() < 1e-3
    assert np.abs(after[24000 + 1024 : 72000 - 1024]).max() > 0.1
    kept = slice(round(2.3 * 48000), round(3.9 * 48000))
    assert sound.lag_s(before[kept], after[kept])[1] > 0.95


def test_mute_counts_as_players_and_zones_do_whatever_is_cut(tmp_path: Path) -> None:
    """The first picture is 0.4 s late, and what is before 0.9 s is cut off."""
    path = write_film(tmp_path / "a.mkv", [voice(4, 48000)], video_pts=range(10, 100))
    mute = AudioOptions(mode="keep", mute=("1-2",))
    passed(path, mute, tmp_path / "out.mp4", start_s=0.9)
    after = sound.heard(tmp_path / "out.mp4")
    assert np.abs(after[round(0.16 * 48000) : round(1.04 * 48000)]).max() < 1e-3
    assert np.abs(after[: 4800 - 2048]).max() > 0.05
    assert np.abs(after[52800 + 2048 : 76800]).max() > 0.05
    with FileSource(path, FileOptions(start_s=0.9)) as source:
        clock = source.clock
        assert float(clock.origin_s - clock.zero_s) == pytest.approx(source.info.begins_s)


def test_a_span_in_which_there_is_no_sound_is_told(tmp_path: Path) -> None:
    """Who mistypes a time must not think that a name is silent."""
    path = write_film(tmp_path / "a.mp4", [voice(2, 48000)])
    mute = AudioOptions(mode="keep", mute=("0-1", "0:21-0:22"))
    track = passed(path, mute, tmp_path / "out.mp4")
    assert track.warnings == ["--mute 0:21-0:22: there is no sound then"]


def chunks(path: Path, clock: FileClock = FROM_0, **options: Any) -> Iterator[sound.Samples]:
    with SoundSource(path, FileOptions(**options), clock) as read:
        follows = 0
        for raw in read.chunks():
            assert raw.start == follows
            follows += raw.count
            with raw.analysis() as samples:
                yield samples.copy()
            raw.release()


def test_sound_is_cut_to_the_sample(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mov", [voice(2, 48000)], codec="pcm_s16le", sample_format="s16")
    whole = np.concatenate(list(chunks(path)), axis=1)
    cut = FileClock(Fraction(0), Fraction(12345, 48000), Fraction(54321, 48000))
    part = np.concatenate(list(chunks(path, cut)), axis=1)
    assert np.array_equal(part, whole[:, 12345:54321])


def test_what_lacks_is_silence(tmp_path: Path) -> None:
    path = write_film(
        tmp_path / "a.mov", [voice(1, 8000)], rate=8000, start_s=0.25, codec="pcm_s16le",
        sample_format="s16",
    )  # fmt: skip
    whole = np.concatenate(list(chunks(path)), axis=1)
    assert whole.shape == (2, 10000)
    assert not whole[:, :2000].any()
    assert np.allclose(whole[0, 2000:], voice(1, 8000), atol=1e-3)


@pytest.mark.parametrize(
    ("rate", "becomes"),
    [(7350, 7350), (8000, 8000), (37800, 44100), (48000, 48000), (96000, 96000), (192000, 96000)],
)
def test_rates_are_kept_where_aac_has_them(rate: int, becomes: int, tmp_path: Path) -> None:
    path = write_film(
        tmp_path / "a.mkv", [voice(0.5, rate)], rate=rate, codec="pcm_s16le", sample_format="s16"
    )
    with SoundSource(path, FileOptions(), FROM_0) as read:
        assert read.format == AudioFormat(becomes, 2)
        told = [] if rate == becomes else [f"sound of {rate} Hz becomes {becomes} Hz"]
        assert read.warnings == told


def test_more_channels_become_stereo_and_that_is_said(tmp_path: Path) -> None:
    path = CLIPS["surround.mkv"](tmp_path / "a.mkv")
    with SoundSource(path, FileOptions(), FROM_0) as read:
        assert read.format == AudioFormat(48000, 2)
        assert read.warnings == ["sound of 6 channels becomes stereo"]


@pytest.mark.parametrize("default", [0, 1, 2])
def test_the_default_track_is_read_and_the_others_are_named(default: int, tmp_path: Path) -> None:
    tones = [np.full(24000, level, np.float32) for level in (0.1, 0.3, 0.5)]
    path = write_film(
        tmp_path / "a.mkv", tones, default=default, codec="pcm_s16le", sample_format="s16"
    )
    with SoundSource(path, FileOptions(), FROM_0) as read:
        others = [f"audio track {number}" for number in (1, 2, 3) if number != default + 1]
        assert list(read.left_out) == others
    whole = np.concatenate(list(chunks(path)), axis=1)
    assert np.median(whole) == pytest.approx((0.1, 0.3, 0.5)[default], abs=1e-3)


def test_a_film_without_sound_has_no_format(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mp4")
    with SoundSource(path, FileOptions(), FROM_0) as read:
        assert read.format is None
        assert list(read.chunks()) == []


def damaged(path: Path) -> Path:
    """Puts noise over a stretch of the sound, and no picture."""
    write_film(path, [voice(2, 48000)], codec="flac", sample_format="s16")
    return spoil(path, [10])


def spoil(path: Path, numbers: Iterable[int]) -> Path:
    """Puts noise over packets of the sound."""
    with av.open(path) as container:
        packets = [bytes(one) for one in container.demux(audio=0) if one.size]
    data = path.read_bytes()
    for number in numbers:
        if number < len(packets):
            noise = np.random.default_rng(number).bytes(len(packets[number]))
            data = data.replace(packets[number], noise, 1)
    path.write_bytes(data)
    return path


def test_damaged_sound_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = damaged(tmp_path / "a.mkv")
    with pytest.raises(
        TruncatedSourceError, match="--salvage, or leave the sound out with --audio"
    ):
        list(chunks(path))


@pytest.mark.parametrize("salvage", [False, True])
def test_sound_of_which_nothing_can_be_decoded_is_an_error(salvage: bool, tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", [voice(2, 48000)], codec="flac", sample_format="s16")
    spoil(path, range(1000))
    with pytest.raises(SourceError, match=r"cannot be decoded|damaged .*--audio drop"):
        list(chunks(path, salvage=salvage))


def test_sound_that_was_joined_midway_begins_with_silence_and_that_is_said(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", [voice(2, 48000)], codec="flac", sample_format="s16")
    spoil(path, range(3))
    with SoundSource(path, FileOptions(), FROM_0) as read:
        assert read.warnings == ["its sound begins with what cannot be decoded; that is silence"]
    whole = np.concatenate(list(chunks(path)), axis=1)
    assert not whole[:, :9000].any()
    assert sound.lag_s(voice(2, 48000), whole[0])[0] == pytest.approx(0, abs=0.002)


def test_with_salvage_damaged_sound_is_silent_and_the_rest_in_its_place(tmp_path: Path) -> None:
    whole = np.concatenate(list(chunks(damaged(tmp_path / "a.mkv"), salvage=True)), axis=1)
    assert whole.shape[1] == pytest.approx(96000, abs=1)
    assert sound.lag_s(voice(2, 48000), whole[0])[0] == pytest.approx(0, abs=0.002)


def test_sound_without_a_decoder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_film(tmp_path / "a.mov", [voice(1, 48000)], codec="pcm_s16le", sample_format="s16")
    path.write_bytes(path.read_bytes().replace(b"sowt", b"zzzz"))
    with pytest.raises(SourceError, match=r"no decoder for its sound; .*--audio drop"):
        SoundSource(path, FileOptions(), FROM_0)


def test_time_that_jumps_back_is_an_error(tmp_path: Path) -> None:
    one = write_film(tmp_path / "a.ts", [voice(3, 48000)]).read_bytes()
    path = tmp_path / "twice.ts"
    path.write_bytes(one + one)
    with pytest.raises(SourceError, match="time jumps back"):
        list(chunks(path))


def test_a_gap_of_hours_is_a_damaged_timestamp(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", [voice(1, 8000)], rate=8000, start_s=4000)
    with pytest.raises(SourceError, match=r"gap of more than an hour; leave the sound out"):
        list(chunks(path))


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    def peak(seconds: int) -> int:
        path = tmp_path / f"{seconds}.mkv"
        write_film(
            path, [voice(1, 16000)], rate=16000, start_s=seconds, codec="pcm_s16le",
            sample_format="s16", layout="mono",
        )  # fmt: skip
        tracemalloc.start()
        for _ in chunks(path):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(600) < 2 * peak(2) + 200_000


def test_nothing_but_sound_passes(tmp_path: Path) -> None:
    secret = {"title": "Anna Example", "comment": "52.5N 13.4E", "language": "swa"}
    path = write_film(tmp_path / "a.mkv", [voice(1, 48000)], metadata=secret)
    passed(path, AudioOptions(mode="keep"), tmp_path / "out.mp4")
    data = (tmp_path / "out.mp4").read_bytes()
    for text in (b"Anna", b"52.5N", b"swa", b"Lavc", b"Lavf"):
        assert text not in data
    with av.open(tmp_path / "out.mp4") as container:
        assert [one.type for one in container.streams] == ["video", "audio"]
        track = container.streams.audio[0]
        assert track.codec_context.name == "aac"
        assert set(track.metadata) <= {"language", "handler_name", "vendor_id"}
        assert track.metadata["language"] == "und"
