"""Measures how far sound lies from where it was, and draws what became of a voice.

Generated films with other starts, rates, containers, edit lists and frame times go through
`anonymize --audio keep`; the sounds of input and output, each counted from the first picture by
FFmpeg's timestamps, are cross-correlated. A disguise is measured by loudness, which it keeps. Exit
code 1 where one lies apart by more than an AAC frame (21.3 ms at 48 kHz).

    python scripts/bench/sound.py [--pictures FOLDER] [FILM...]

`--pictures` writes spectrograms of a voice: as it was, kept, disguised. FILMs are measured besides.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from m2fp_stream import Settings, anonymize
from tests.kit.sound import Samples, envelope, heard, lag_s, patch_edit, voice, write_film

LIMIT_S = 1024 / 48000
_VARIABLE = [0, 40, 41, 100, 400, 1000, 1001, 2900]


def films(folder: Path) -> list[Path]:
    """Writes the films."""
    speech = {rate: [voice(4, rate)] for rate in (16000, 22050, 32000, 44100, 48000, 96000)}
    pictures = range(100)

    def film(name: str, rate: int = 48000, **more: object) -> Path:
        given = {"video_pts": pictures, **more}
        return write_film(folder / name, speech[rate], rate=rate, **given)  # type: ignore[arg-type]  # one dict

    pcm = {"codec": "pcm_s16le", "sample_format": "s16"}
    return [
        film("plain.mp4"),
        film("sound_late.mp4", 44100, start_s=0.371),
        film("sound_early.mp4", start_s=-0.4),
        film("picture_late.mkv", video_pts=range(20, 120)),
        film("picture_late.mp4", video_pts=range(33, 133)),
        patch_edit(film("edit_list.mp4"), 1, 1024 + 24000),
        film("variable.mp4", 32000, video_pts=_VARIABLE, video_base=Fraction(1, 1000)),
        film("mono_16k.mkv", 16000, layout="mono", start_s=0.213),
        film("opus.mkv", codec="libopus", sample_format="flt", start_s=0.1),
        film("mp3.mkv", 44100, codec="libmp3lame"),
        film("pcm_22k.mov", 22050, start_s=0.5, **pcm),
        film("fine_96k.mkv", 96000, **pcm),
        film("surround.mkv", codec="flac", sample_format="s16", layout="5.1"),
        film("clock.ts", start_s=0.3),
        film("flash.flv", 44100, start_s=0.2),
        film("old.avi", 44100, codec="libmp3lame"),
        film("gap.mkv", gaps=[(1.0, 1.5)]),
    ]


def measured(path: Path, mode: str, folder: Path) -> tuple[float, float]:
    """Returns seconds by which the output's sound is late, and the height of the correlation."""
    out = folder / f"{path.name}.{mode}.mp4"
    config = Settings.model_validate({"audio": {"mode": mode}})
    anonymize(path, out, config, overwrite=True)
    before, after = heard(path), heard(out)
    if mode == "keep":
        return lag_s(before, after)
    return lag_s(envelope(before), envelope(after), rate=1000)


def spectrogram(samples: Samples, path: Path, *, rate: int = 48000) -> None:
    """Writes a picture: time to the right, 0 to 5 kHz upwards, 70 dB from black to white."""
    size, step = 2048, 256
    starts = range(0, len(samples) - size, step)
    window = np.hanning(size)
    power = np.array([np.abs(np.fft.rfft(samples[at : at + size] * window)) for at in starts]).T
    shown = power[: 5000 * size // rate][::-1]
    levels = 20 * np.log10(shown / shown.max() + 1e-6)
    grey = np.clip((levels + 70) / 70 * 255, 0, 255).astype(np.uint8)
    large = cv2.resize(grey, (grey.shape[1] * 2, grey.shape[0] * 2))
    cv2.imwrite(str(path), cv2.applyColorMap(large, cv2.COLORMAP_INFERNO))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("films", nargs="*", type=Path, metavar="FILM")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    worst = {"keep": 0.0, "disguise": 0.0}
    folder = Path(tempfile.mkdtemp())
    try:
        for path in [*films(folder), *args.films]:
            told = [path.name.ljust(20)]
            for mode in worst:
                late_s, height = measured(path, mode, folder)
                worst[mode] = max(worst[mode], abs(late_s))
                told.append(f"{mode} {late_s * 1000:+7.2f} ms (correlation {height:.3f})")
            print("  ".join(told), flush=True)
        if args.pictures is not None:
            args.pictures.mkdir(exist_ok=True)
            spectrogram(heard(folder / "plain.mp4"), args.pictures / "in.png")
            for mode in worst:
                spectrogram(heard(folder / f"plain.mp4.{mode}.mp4"), args.pictures / f"{mode}.png")
    finally:
        shutil.rmtree(folder)
    print("worst:", ", ".join(f"{mode} {late_s * 1000:.2f} ms" for mode, late_s in worst.items()))
    return int(max(worst.values()) > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
