"""What a film may be in: MP4, Matroska or WebM, and what each of them permits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Literal, final

__all__ = ["CONTAINERS", "Container", "ContainerName"]

ContainerName = Literal["mp4", "mkv", "webm"]
"""Also the suffix of its files."""

_MILLISECOND: Final = Fraction(1, 1000)

OPUS_RATES: Final = (8000, 12000, 16000, 24000, 48000)
"""Samples a second that Opus takes. Source: RFC 6716, 2.1.3, table 1 (effective rates)."""


@final
@dataclass(frozen=True, slots=True)
class Container:
    """What is to be known of one.

    Attributes:
        title: its name as people know it.
        muxer: its name in FFmpeg.
        encoders: what of `encoders.ENCODERS` it may hold; the first unless another is named.
        sound: FFmpeg's encoder of its sound.
        sound_rates: samples a second that its sound may have; None for those of AAC.
        tick: what its times are counted in; None where any time base can be kept.
        states_aspect: the encoders of those pictures of which it says that their pixels are not
            square. Matroska writes this of the stream, which PyAV 18 cannot set; H.264 and HEVC
            say it themselves.
        in_a_file: what the muxer is asked for where it can go back.
        in_a_pipe: the same where it cannot: what was written can be played up to there.
        tags: FFmpeg's codec tags other than its own.
    """

    title: str
    muxer: str
    encoders: tuple[str, ...]
    sound: Literal["aac", "libopus"]
    sound_rates: tuple[int, ...] | None = None
    tick: Fraction | None = None
    states_aspect: tuple[str, ...] = ()
    in_a_file: Mapping[str, str] = field(default_factory=dict[str, str])
    in_a_pipe: Mapping[str, str] = field(default_factory=dict[str, str])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


_CLUSTERS: Final = {"cluster_time_limit": "1000"}
"""Milliseconds. As often as MP4's pieces: a reader gets a picture a second after it was made."""

CONTAINERS: Final[Mapping[str, Container]] = {
    "mp4": Container(
        title="MP4",
        muxer="mp4",
        encoders=("x264", "x265", "av1"),
        sound="aac",
        states_aspect=("x264", "x265", "av1"),
        # The muxer moves the index to the front by reading its own file again.
        in_a_file={"use_editlist": "1", "movflags": "+faststart"},
        in_a_pipe={
            "use_editlist": "1",
            "movflags": "+frag_keyframe+empty_moov+delay_moov+default_base_moof",
            "frag_duration": "1000000",
        },
        # QuickTime and Safari play HEVC under this tag only. Source: Apple, HLS Authoring
        # Specification for Apple Devices, 1.10.
        tags={"x265": "hvc1"},
    ),
    "mkv": Container(
        title="Matroska",
        muxer="matroska",
        encoders=("x264", "x265", "av1", "vp9"),
        sound="aac",
        tick=_MILLISECOND,  # FFmpeg's muxer knows no other
        states_aspect=("x264", "x265"),
        in_a_pipe=_CLUSTERS,
    ),
    # Source: WebM Container Guidelines, "WebM Guidelines": VP8, VP9 or AV1, Vorbis or Opus.
    "webm": Container(
        title="WebM",
        muxer="webm",
        encoders=("av1", "vp9"),
        sound="libopus",
        sound_rates=OPUS_RATES,
        tick=_MILLISECOND,
        in_a_pipe=_CLUSTERS,
    ),
}
"""By the suffix of their files."""
