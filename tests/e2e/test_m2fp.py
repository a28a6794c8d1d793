"""M2FP from a folder of weights to a covered film: export, cache, guard, review, live.

The weights are random: what M2FP says is noise, which the review has to notice. That it says what
the reference says is in tests/golden.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kit.film import (
    LOOKS_LIKE_HER,
    PATIENT,
    Bgr,
    command,
    environment,
    likeness,
    pictures,
    run,
    write_config,
)
from tests.kit.wait import PATIENCE_S, wait_until

pytestmark = pytest.mark.paced

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like ModelScope's."""
    from m2fp_stream.parsers.m2fp.model import M2FP

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(1)
    torch.save({"model": M2FP(21, (64, 96)).state_dict()}, folder / "pytorch_model.pt")
    model = {"type": "m2fp", "single_human": False, "decoder": {"num_classes": 21}}
    (folder / "configuration.json").write_text(json.dumps({"model": model}))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base = tmp_path_factory.mktemp("home")
    return {
        "XDG_CACHE_HOME": str(base / "cache"),
        "XDG_DATA_HOME": str(base / "data"),
        "M2FP_STREAM_M2FP__SHORT_SIDE": "128",
    }


def test_a_film_is_covered_and_looks_of_m2fp_are_counted(
    film: Path, portrait: Bgr, weights: Path, folders: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    words = ["anonymize", film, "-o", out, "--parser", "m2fp", "--model-dir", weights, "--end", "1"]
    done = run(*words, cwd=tmp_path, **folders)
    assert done.returncode == 0, done.stderr
    assert "exporting M2FP for 160x128, once" in done.stderr
    found = re.search(r"looks: .*\b(\d+) fine", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) > 0
    shown = list(pictures(out))
    assert len(shown) == 15
    assert max(likeness(picture, portrait) for picture in shown) < LOOKS_LIKE_HER
    again = run(*words, "--overwrite", cwd=tmp_path, **folders)
    assert again.returncode == 0, again.stderr
    assert "exporting" not in again.stderr  # it is kept
    cache = Path(folders["XDG_CACHE_HOME"]) / "m2fp-stream" / "m2fp"
    assert [path.suffix for path in sorted(cache.iterdir())] == [".json", ".onnx"]


def test_a_photograph_gets_its_label_map(
    weights: Path, folders: dict[str, str], portrait: Bgr, tmp_path: Path
) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "her.png"), portrait[:360, :400])
    words = ["parse", "her.png", "-o", "labels.png", "--parser", "m2fp", "--model-dir", weights]
    done = run(*words, cwd=tmp_path, **folders)
    assert done.returncode == 0, done.stderr
    labels = cv2.imread(str(tmp_path / "labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels is not None
    assert labels.shape == (360, 400)


def test_live_it_refines_and_never_shows_her(
    film: Path, portrait: Bgr, weights: Path, folders: dict[str, str], tmp_path: Path
) -> None:
    config = write_config(
        tmp_path / "run.yaml",
        capture={"input": str(film), "loop": True},
        live=PATIENT,
        m2fp={"enabled": True, "model_dir": str(weights), "short_side": 128},
        record={"enabled": True, "folder": str(tmp_path), "preset": "ultrafast"},
    )
    stats = tmp_path / "stats.json"
    with subprocess.Popen(
        command("run", config, "--seconds", "900", "--stats", stats),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(**folders),
    ) as process:

        def has_enough() -> bool:
            if not stats.exists():
                return False
            facts = json.loads(stats.read_text())
            written: int = facts["sinks"]["recording"]["written"]
            return bool(facts["fine"]["parses"] > 1 and written > 30)

        # Its worker is the nicest: on a busy machine it gets a hundredth of a core. On an idle one
        # its second parse comes when little is recorded yet.
        try:
            wait_until(has_enough, patience_s=800)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130
        finally:
            process.kill()
    facts = json.loads(stats.read_text())
    assert facts["fine"]["failures"] == 0
    shown = [picture for path in tmp_path.glob("m2fp-stream-*.mp4") for picture in pictures(path)]
    assert len(shown) > 30
    assert max(likeness(picture, portrait) for picture in shown) < LOOKS_LIKE_HER


def test_broken_folders_are_one_line_and_4(
    film: Path, weights: Path, folders: dict[str, str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "configuration.json").write_text((weights / "configuration.json").read_text())
    data = (weights / "pytorch_model.pt").read_bytes()
    (broken / "pytorch_model.pt").write_bytes(data[: len(data) // 2])
    words = ["anonymize", film, "-o", tmp_path / "out.mp4", "--parser", "m2fp"]
    done = run(*words, "--model-dir", broken, cwd=tmp_path, **folders)
    assert done.returncode == 4
    assert "cannot be read as plain tensors" in done.stderr
    assert len([line for line in done.stderr.splitlines() if "error:" in line]) == 1
    assert not (tmp_path / "out.mp4").exists()
