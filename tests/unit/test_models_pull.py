"""What is pulled is trusted once, and is the same ever after, or nothing is loaded.

Two hubs: one that copies from a folder, piece by piece and resumably, and ModelScope's own client
against a server on this machine that speaks its protocol.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from m2fp_stream.core.errors import ModelError, UsageError
from m2fp_stream.models import pull as module
from m2fp_stream.models.hub import HubModel, ModelScopeHub, Progress, hub_models
from m2fp_stream.models.pins import pulled_folder, store_folder, verify_pulled
from m2fp_stream.models.pull import Pulled, pull
from tests.kit.wait import wait_until

MODEL_ID = "damo/cv_resnet101_image-multiple-human-parsing"
CONFIGURATION = json.dumps({"framework": "pytorch", "task": "image-segmentation"}).encode()


def checkpoint(fill: int, size: int = 5_000) -> bytes:
    """Bytes built like a checkpoint: a zip archive that is not compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), bytes([fill]) * size)
    return file.getvalue()


WEIGHTS = checkpoint(1)
OTHER_WEIGHTS = checkpoint(2)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


PINNED = {"configuration.json": sha256(CONFIGURATION), "pytorch_model.pt": sha256(WEIGHTS)}


@dataclass
class FolderHub:
    """A hub that is a dictionary of files; it resumes, and can be made to fail on the way."""

    files: dict[str, bytes]
    piece: int = 1_000
    fail_after: int | None = None  # bytes that it gives before `failure`
    failure: BaseException = field(default_factory=lambda: TimeoutError("https://user:pw@hub/x"))
    fetched: list[tuple[str, int]] = field(default_factory=list)  # (file, resumed from)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def fetch(
        self, model_id: str, revision: str, file: str, target: Path, progress: Progress | None
    ) -> None:
        self.asked.append((model_id, revision))
        content = self.files[file]
        partial = target.with_suffix(".incomplete")
        done = partial.stat().st_size if partial.exists() else 0
        self.fetched.append((file, done))
        with partial.open("ab") as out:
            while done < len(content):
                if self.fail_after is not None and done >= self.fail_after:
                    raise self.failure
                out.write(content[done : done + self.piece])
                done = min(done + self.piece, len(content))
                if progress is not None:
                    progress(file, done, len(content))
        partial.replace(target)


def whole_hub(**changes: Any) -> FolderHub:
    return FolderHub({"configuration.json": CONFIGURATION, "pytorch_model.pt": WEIGHTS}, **changes)


def yes(_: HubModel) -> bool:
    return True


def never(_: HubModel) -> bool:
    raise AssertionError("the licence was shown again")


class NoHub:
    def fetch(self, *_: object) -> None:
        raise AssertionError("the hub was asked")


def first_pull(store: Path, **arguments: Any) -> Pulled:
    return pull("m2fp", store, accept=yes, hub=whole_hub(), **arguments)


def names(folder: Path) -> set[str]:
    """Returns every file below `folder`, by its path."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


STORED = {
    *(".lock", "pins.json"),
    *("m2fp/v1.0.1/configuration.json", "m2fp/v1.0.1/pytorch_model.pt"),
}


def edit_pins(store: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    pins = json.loads((store / "pins.json").read_text())
    edit(pins)
    (store / "pins.json").write_text(json.dumps(pins))


# --------------------------------------------------------------------------------------------------
# The first pull, and every later one


def test_the_first_pull_stores_pins_and_says_that_it_was_the_first(tmp_path: Path) -> None:
    store = tmp_path / "new" / "store"
    hub = whole_hub()
    pulled = pull("m2fp", store, accept=yes, hub=hub)
    assert pulled == Pulled(folder=store / "m2fp" / "v1.0.1", files=PINNED, first_time=True)
    assert (pulled.folder / "pytorch_model.pt").read_bytes() == WEIGHTS
    assert (pulled.folder / "configuration.json").read_bytes() == CONFIGURATION
    assert names(store) == STORED
    assert set(hub.asked) == {(MODEL_ID, "v1.0.1")}
    assert pulled_folder("m2fp", store) == (pulled.folder, PINNED)


def test_the_pins_say_what_was_trusted_when_and_under_which_licence(tmp_path: Path) -> None:
    first_pull(tmp_path)
    assert stat.S_IMODE((tmp_path / "pins.json").stat().st_mode) == 0o600
    pins = json.loads((tmp_path / "pins.json").read_text())
    assert pins["format"] == 1
    assert pins["accepted"]["m2fp"]["licence"] == "CC BY-NC 4.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", pins["accepted"]["m2fp"]["date"])
    pin = pins["models"]["m2fp@v1.0.1"]
    assert pin["model_id"] == MODEL_ID
    assert pin["files"]["pytorch_model.pt"] == {"sha256": sha256(WEIGHTS), "bytes": len(WEIGHTS)}


def test_the_second_pull_asks_neither_the_hub_nor_for_the_licence(tmp_path: Path) -> None:
    first_pull(tmp_path)
    before = (tmp_path / "pins.json").read_bytes()
    again = pull("m2fp", tmp_path, accept=never, hub=NoHub())
    assert again == Pulled(folder=tmp_path / "m2fp" / "v1.0.1", files=PINNED, first_time=False)
    assert (tmp_path / "pins.json").read_bytes() == before


def test_a_lost_file_is_fetched_again_and_is_the_pinned_one(tmp_path: Path) -> None:
    folder = first_pull(tmp_path).folder
    (folder / "pytorch_model.pt").unlink()
    again = pull("m2fp", tmp_path, accept=never, hub=whole_hub())
    assert again.files == PINNED
    assert not again.first_time
    assert names(tmp_path) == STORED


def test_progress_tells_each_file_s_bytes_and_ends_with_all_of_them(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    first_pull(tmp_path, progress=lambda *facts: told.append(facts))
    weights = [facts for facts in told if facts[0] == "pytorch_model.pt"]
    assert weights[0] == ("pytorch_model.pt", 1_000, len(WEIGHTS))
    assert weights[-1] == ("pytorch_model.pt", len(WEIGHTS), len(WEIGHTS))
    assert [done for _, done, _ in weights] == sorted(done for _, done, _ in weights)


def test_other_models_and_revisions_live_side_by_side_and_the_last_pulled_is_loaded(
    tmp_path: Path,
) -> None:
    first_pull(tmp_path)
    pull("m2fp-lip", tmp_path, accept=yes, hub=whole_hub())
    assert pulled_folder("m2fp-lip", tmp_path)[0] == tmp_path / "m2fp-lip" / "master"
    new = FolderHub({"configuration.json": CONFIGURATION, "pytorch_model.pt": OTHER_WEIGHTS})
    assert pull("m2fp", tmp_path, accept=never, hub=new, revision="v2").first_time
    assert pulled_folder("m2fp", tmp_path)[0] == tmp_path / "m2fp" / "v2"
    pull("m2fp", tmp_path, accept=never, hub=NoHub())
    assert pulled_folder("m2fp", tmp_path) == (tmp_path / "m2fp" / "v1.0.1", PINNED)
    assert [result.name for result in verify_pulled(tmp_path) if result.ok] == [
        *("m2fp@v1.0.1", "m2fp-lip@master", "m2fp@v2"),
    ]


@pytest.mark.parametrize("revision", ["", ".", "..", "../x", "a/b", ".hidden", "a b", "-x", "é"])
def test_a_revision_that_is_no_plain_name_is_refused(tmp_path: Path, revision: str) -> None:
    with pytest.raises(UsageError, match="no revision"):
        pull("m2fp", tmp_path / "store", accept=never, hub=NoHub(), revision=revision)
    assert not (tmp_path / "store").exists()


def test_an_unknown_model_is_refused_and_the_known_ones_named(tmp_path: Path) -> None:
    for call in (
        lambda: pull("m3fp", tmp_path, accept=never, hub=NoHub()),
        lambda: pulled_folder("m3fp", tmp_path),
    ):
        with pytest.raises(UsageError, match=r"'m3fp'.*m2fp, m2fp-lip"):
            call()


def test_every_known_model_names_its_licence_and_that_it_is_not_commercial() -> None:
    assert [(model.name, model.kind) for model in hub_models()] == [
        ("m2fp", "cihp"),
        ("m2fp-lip", "lip"),
    ]
    for model in hub_models():
        assert model.licence == "CC BY-NC 4.0"
        assert model.licence_url.startswith("https://creativecommons.org/licenses/by-nc/")
        assert "non-commercial" in model.licence_note


# --------------------------------------------------------------------------------------------------
# The licence


def test_a_refused_licence_fetches_nothing_and_is_asked_again(tmp_path: Path) -> None:
    shown: list[HubModel] = []

    def refuse(model: HubModel) -> bool:
        shown.append(model)
        return False

    for _ in range(2):
        with pytest.raises(UsageError, match=r"CC BY-NC 4\.0, was not accepted"):
            pull("m2fp", tmp_path, accept=refuse, hub=NoHub())
    assert [model.name for model in shown] == ["m2fp", "m2fp"]
    assert names(tmp_path) == {".lock"}


def test_an_accepted_licence_is_not_asked_for_again_after_a_failed_pull(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        pull("m2fp", tmp_path, accept=yes, hub=whole_hub(fail_after=0))
    assert pull("m2fp", tmp_path, accept=never, hub=whole_hub()).first_time


def test_another_model_s_licence_is_asked_for(tmp_path: Path) -> None:
    first_pull(tmp_path)
    with pytest.raises(UsageError, match="not accepted"):
        pull("m2fp-lip", tmp_path, accept=lambda _: False, hub=NoHub())


def test_without_an_acceptance_nothing_is_loaded(tmp_path: Path) -> None:
    first_pull(tmp_path)
    edit_pins(tmp_path, lambda pins: pins["accepted"]["m2fp"].update(licence="MIT"))
    with pytest.raises(ModelError, match=r"not accepted; run: m2fp-stream models pull m2fp"):
        pulled_folder("m2fp", tmp_path)
    with pytest.raises(UsageError, match="not accepted"):
        pull("m2fp", tmp_path, accept=lambda _: False, hub=NoHub())
    pull("m2fp", tmp_path, accept=yes, hub=NoHub())
    pulled_folder("m2fp", tmp_path)


# --------------------------------------------------------------------------------------------------
# The hub gives something else, or nothing


def lose(store: Path) -> None:
    shutil.rmtree(store / "m2fp")


@pytest.mark.parametrize(
    ("changes", "file"),
    [
        ({"pytorch_model.pt": OTHER_WEIGHTS}, "pytorch_model.pt"),
        ({"pytorch_model.pt": WEIGHTS[:-1]}, "pytorch_model.pt"),
        ({"configuration.json": CONFIGURATION + b"\n"}, "configuration.json"),
    ],
)
def test_what_changed_upstream_is_refused_kept_aside_and_never_loaded(
    tmp_path: Path, changes: dict[str, bytes], file: str
) -> None:
    first_pull(tmp_path)
    before = (tmp_path / "pins.json").read_bytes()
    lose(tmp_path)
    hub = whole_hub()
    hub.files |= changes
    for _ in range(2):
        with pytest.raises(ModelError) as caught:
            pull("m2fp", tmp_path, accept=never, hub=hub)
        message = str(caught.value)
        assert "\n" not in message
        assert "has changed" in message
        assert PINNED[file] in message
        assert sha256(changes[file]) in message
        assert str(tmp_path / "pins.json") in message
        assert "'m2fp@v1.0.1'" in message
        rejected = tmp_path / "m2fp" / ".v1.0.1.rejected"
        assert str(rejected) in message
        assert (rejected / file).read_bytes() == changes[file]
        assert not (tmp_path / "m2fp" / "v1.0.1").exists()
        assert (tmp_path / "pins.json").read_bytes() == before
    with pytest.raises(ModelError, match="cannot be read"):
        pulled_folder("m2fp", tmp_path)
    # Back to what it was: nothing of the other is left.
    pull("m2fp", tmp_path, accept=never, hub=whole_hub())
    assert names(tmp_path) == STORED


def test_changed_upstream_does_not_touch_what_is_here(tmp_path: Path) -> None:
    folder = first_pull(tmp_path).folder
    (folder / "configuration.json").write_bytes(b"{}")  # so that it is fetched again
    hub = whole_hub()
    hub.files["pytorch_model.pt"] = OTHER_WEIGHTS
    with pytest.raises(ModelError, match="has changed"):
        pull("m2fp", tmp_path, accept=never, hub=hub)
    assert (folder / "pytorch_model.pt").read_bytes() == WEIGHTS


def test_deleting_the_pin_trusts_the_new_one_on_purpose(tmp_path: Path) -> None:
    first_pull(tmp_path)
    edit_pins(tmp_path, lambda pins: pins["models"].pop("m2fp@v1.0.1"))
    with pytest.raises(ModelError, match="is not here"):
        pulled_folder("m2fp", tmp_path)
    hub = whole_hub()
    hub.files["pytorch_model.pt"] = OTHER_WEIGHTS
    pulled = pull("m2fp", tmp_path, accept=never, hub=hub)
    assert pulled.first_time
    assert pulled.files["pytorch_model.pt"] == sha256(OTHER_WEIGHTS)
    assert names(tmp_path) == STORED


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("pytorch_model.pt", WEIGHTS[: len(WEIGHTS) // 2]),
        ("pytorch_model.pt", WEIGHTS[:-30]),
        ("pytorch_model.pt", b""),
        ("pytorch_model.pt", b"<html>Please sign in</html>"),
        ("configuration.json", CONFIGURATION[:-1]),
        ("configuration.json", b"[]"),
        ("configuration.json", b"\xff\xfe"),
    ],
)
def test_what_is_broken_at_first_use_is_not_trusted(
    tmp_path: Path, file: str, content: bytes
) -> None:
    hub = whole_hub()
    hub.files[file] = content
    with pytest.raises(ModelError, match=rf"{re.escape(file)} is not what .* nothing was trusted"):
        pull("m2fp", tmp_path, accept=yes, hub=hub)
    assert json.loads((tmp_path / "pins.json").read_text())["models"] == {}
    assert not (tmp_path / "m2fp" / "v1.0.1").exists()
    assert pull("m2fp", tmp_path, accept=never, hub=whole_hub()).first_time
    assert names(tmp_path) == STORED


def test_a_checkpoint_of_an_old_torch_is_taken(tmp_path: Path) -> None:
    hub = whole_hub()
    hub.files["pytorch_model.pt"] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
    assert pull("m2fp", tmp_path, accept=yes, hub=hub).first_time


def test_an_interrupted_pull_goes_on_where_it_was(tmp_path: Path) -> None:
    hub = whole_hub(fail_after=3_000, failure=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pull("m2fp", tmp_path, accept=yes, hub=hub)
    assert not (tmp_path / "m2fp" / "v1.0.1").exists()
    assert verify_pulled(tmp_path) == []
    with pytest.raises(ModelError, match=r"is not here; run: m2fp-stream models pull m2fp"):
        pulled_folder("m2fp", tmp_path)
    hub.fail_after = None
    assert pull("m2fp", tmp_path, accept=never, hub=hub).files == PINNED
    assert hub.fetched[-1] == ("pytorch_model.pt", 3_000)
    assert names(tmp_path) == STORED


def test_an_unreachable_hub_is_one_line_that_shows_no_address(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        pull("m2fp", tmp_path, accept=yes, hub=whole_hub(fail_after=2_000))
    message = str(caught.value)
    assert "TimeoutError" in message
    assert "--model-dir" in message
    assert "pw" not in message
    assert "\n" not in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert (tmp_path / "m2fp" / ".v1.0.1.part" / "pytorch_model.incomplete").stat().st_size == 2_000


def test_a_hub_that_leaves_no_file_or_a_link_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(CONFIGURATION)

    class Linking:
        def fetch(self, model_id: str, revision: str, file: str, target: Path, _: object) -> None:
            target.symlink_to(tmp_path / "elsewhere")

    class Idle:
        def fetch(self, *_: object) -> None:
            pass

    for hub in (Linking(), Idle()):
        with pytest.raises(ModelError, match=r"did not deliver configuration\.json"):
            pull("m2fp", tmp_path / "store", accept=yes, hub=hub)
        shutil.rmtree(tmp_path / "store")


# --------------------------------------------------------------------------------------------------
# The disk


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EROFS, "cannot be used"),
        (errno.EACCES, "cannot be used"),
    ],
)
def test_a_full_or_closed_disk_is_one_line_and_the_next_pull_goes_on(
    tmp_path: Path, number: int, says: str
) -> None:
    hub = whole_hub(fail_after=4_000, failure=OSError(number, os.strerror(number), "/secret"))
    with pytest.raises(ModelError, match=says) as caught:
        pull("m2fp", tmp_path, accept=yes, hub=hub)
    assert str(tmp_path) in str(caught.value)
    assert "XDG_DATA_HOME" in str(caught.value)
    assert "secret" not in str(caught.value)
    hub.fail_after = None
    pull("m2fp", tmp_path, accept=never, hub=hub)
    assert hub.fetched[-1] == ("pytorch_model.pt", 4_000)


def test_no_space_while_it_is_put_in_place_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_pull(tmp_path)
    lose(tmp_path)
    write_new = module._write_new

    def full(path: Path, data: bytes) -> None:
        if path.name == "configuration.json":
            write_new(path, data[:3])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_new(path, data)

    monkeypatch.setattr(module, "_write_new", full)
    with pytest.raises(ModelError, match="no space left"):
        pull("m2fp", tmp_path, accept=never, hub=whole_hub())
    monkeypatch.undo()
    assert not (tmp_path / "m2fp" / "v1.0.1").exists()
    pull("m2fp", tmp_path, accept=never, hub=whole_hub())
    assert names(tmp_path) == STORED


@pytest.mark.parametrize("step", ["write_pins", "fsync", "_remove"])
def test_an_interruption_at_any_step_leaves_the_old_or_nothing_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Each call of `step` in turn is the last one that the process lives to make."""
    for nth in range(1, 30):
        store = tmp_path / f"{nth}"
        folder = first_pull(store).folder
        (folder / "pytorch_model.pt").write_bytes(b"damaged")
        calls = 0
        place: Any = os if step == "fsync" else module
        real: Callable[..., None] = getattr(place, step)

        def dying(*arguments: Any, real: Callable[..., None] = real, nth: int = nth) -> None:
            nonlocal calls
            calls += 1
            real(*arguments)
            if calls == nth:
                raise KeyboardInterrupt

        monkeypatch.setattr(place, step, dying)
        try:
            pull("m2fp", store, accept=never, hub=whole_hub())
        except KeyboardInterrupt:
            pass
        else:
            monkeypatch.undo()
            break
        monkeypatch.undo()
        content = (folder / "pytorch_model.pt").read_bytes() if folder.exists() else b"not there"
        assert content in (b"not there", b"damaged", WEIGHTS)
        assert pull("m2fp", store, accept=never, hub=whole_hub()).files == PINNED
        assert {name for name in names(store) if not name.startswith("m2fp/.")} == STORED
        assert pulled_folder("m2fp", store)[1] == PINNED
    assert 1 < nth < 29, "the step was never made, or never ended"


def test_a_store_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot be used"):
        pull("m2fp", tmp_path / "file" / "store", accept=never, hub=NoHub())


def test_one_pull_at_a_time(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ModelError, match="another pull"):
            pull("m2fp", tmp_path, accept=never, hub=NoHub())
    first_pull(tmp_path)


# --------------------------------------------------------------------------------------------------
# What is verified


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["configuration.json", "pytorch_model.pt"])
def test_one_flipped_bit_is_found_and_pulling_again_repairs_it(tmp_path: Path, file: str) -> None:
    folder = first_pull(tmp_path).folder
    (fine,) = verify_pulled(tmp_path)
    assert (fine.name, fine.ok, fine.problem) == ("m2fp@v1.0.1", True, "")
    flip(folder / file)
    (bad,) = verify_pulled(tmp_path)
    assert not bad.ok
    assert PINNED[file] in bad.problem
    assert file in bad.problem
    pull("m2fp", tmp_path, accept=never, hub=whole_hub())
    assert [result.ok for result in verify_pulled(tmp_path)] == [True]


def test_a_changed_configuration_or_size_is_not_loaded(tmp_path: Path) -> None:
    folder = first_pull(tmp_path).folder
    flip(folder / "configuration.json")
    with pytest.raises(ModelError, match=r"configuration\.json has SHA-256"):
        pulled_folder("m2fp", tmp_path)
    (folder / "configuration.json").write_bytes(CONFIGURATION)
    (folder / "pytorch_model.pt").write_bytes(WEIGHTS[:-1])
    with pytest.raises(ModelError, match=r"pytorch_model\.pt has .* bytes, .* models pull m2fp"):
        pulled_folder("m2fp", tmp_path)
    (folder / "pytorch_model.pt").unlink()
    with pytest.raises(ModelError, match=r"pytorch_model\.pt cannot be read"):
        pulled_folder("m2fp", tmp_path)


def test_an_empty_store_has_nothing_to_verify_and_says_how_to_fill_it(tmp_path: Path) -> None:
    assert verify_pulled(tmp_path / "none") == []
    with pytest.raises(ModelError, match=r"models pull m2fp; .*--model-dir"):
        pulled_folder("m2fp", tmp_path / "none")


def garbled() -> list[Callable[[dict[str, Any]], object]]:
    def pin(pins: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = pins["models"]["m2fp@v1.0.1"]
        return found

    return [
        lambda pins: pins.update(format=2),
        lambda pins: pins.update(extra=1),
        lambda pins: pins.update(models=[]),
        lambda pins: pins["models"].update({"m2fp@../../etc": pin(pins)}),
        lambda pins: pins["models"].update({"../x@v1": pin(pins)}),
        lambda pins: pin(pins)["files"].pop("pytorch_model.pt"),
        lambda pins: pin(pins)["files"].update({"../x": pin(pins)["files"]["pytorch_model.pt"]}),
        lambda pins: pin(pins)["files"]["pytorch_model.pt"].update(sha256="0" * 63),
        lambda pins: pin(pins)["files"]["pytorch_model.pt"].update(sha256=None),
        lambda pins: pin(pins)["files"]["pytorch_model.pt"].update(bytes="12"),
        lambda pins: pin(pins)["files"]["pytorch_model.pt"].update(bytes=0),
    ]


@pytest.mark.parametrize("edit", garbled())
def test_garbled_pins_are_an_error_and_never_no_pins(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    first_pull(tmp_path)
    edit_pins(tmp_path, edit)
    refuses_pins(tmp_path, "garbled")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b'{"format": 1} x'])
def test_pins_that_are_no_pins_are_an_error(tmp_path: Path, text: bytes) -> None:
    first_pull(tmp_path)
    (tmp_path / "pins.json").write_bytes(text)
    refuses_pins(tmp_path, "garbled")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_pins_that_others_may_write_are_an_error(tmp_path: Path, mode: int) -> None:
    first_pull(tmp_path)
    (tmp_path / "pins.json").chmod(mode)
    refuses_pins(tmp_path, "chmod 600")


def refuses_pins(store: Path, says: str) -> None:
    before = (store / "pins.json").read_bytes()
    for call in (
        lambda: pull("m2fp", store, accept=never, hub=NoHub()),
        lambda: pulled_folder("m2fp", store),
        lambda: verify_pulled(store),
    ):
        with pytest.raises(ModelError, match=says) as caught:
            call()
        assert str(store / "pins.json") in str(caught.value)
        assert "\n" not in str(caught.value)
    assert (store / "pins.json").read_bytes() == before


def test_pins_that_are_a_folder_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "pins.json").mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        pulled_folder("m2fp", tmp_path)


# --------------------------------------------------------------------------------------------------
# Sealed


def mirror(data: bytes, name: str) -> bytes:
    """Stands for sealing: reversible, longer, and bound to the name."""
    return b"sealed " + name.encode() + data[::-1]


def test_sealed_weights_lie_there_sealed_and_are_pinned_as_they_came(tmp_path: Path) -> None:
    pulled = first_pull(tmp_path, seal=mirror)
    assert pulled.files == PINNED
    stored = (pulled.folder / "pytorch_model.pt").read_bytes()
    assert stored == mirror(WEIGHTS, "pytorch_model.pt")
    assert (pulled.folder / "configuration.json").read_bytes() == CONFIGURATION
    assert names(tmp_path) == STORED
    assert all(result.ok for result in verify_pulled(tmp_path))
    assert pulled_folder("m2fp", tmp_path) == (pulled.folder, PINNED)
    assert pull("m2fp", tmp_path, accept=never, hub=NoHub()).files == PINNED
    assert pull("m2fp", tmp_path, accept=never, hub=NoHub(), seal=mirror).files == PINNED
    assert (pulled.folder / "pytorch_model.pt").read_bytes() == stored
    flip(pulled.folder / "pytorch_model.pt")
    assert not any(result.ok for result in verify_pulled(tmp_path))


def test_plain_weights_that_are_here_are_sealed_without_the_hub(tmp_path: Path) -> None:
    folder = first_pull(tmp_path).folder
    assert pull("m2fp", tmp_path, accept=never, hub=NoHub(), seal=mirror).files == PINNED
    assert (folder / "pytorch_model.pt").read_bytes() == mirror(WEIGHTS, "pytorch_model.pt")
    assert names(tmp_path) == STORED
    assert all(result.ok for result in verify_pulled(tmp_path))


def test_what_was_sealed_is_never_stored_plain_unasked(tmp_path: Path) -> None:
    folder = first_pull(tmp_path, seal=mirror).folder
    flip(folder / "pytorch_model.pt")
    with pytest.raises(UsageError, match=r"stored sealed.*'m2fp@v1\.0\.1'.*pins\.json"):
        pull("m2fp", tmp_path, accept=never, hub=NoHub())
    pull("m2fp", tmp_path, accept=never, hub=whole_hub(), seal=mirror)
    assert (folder / "pytorch_model.pt").read_bytes() == mirror(WEIGHTS, "pytorch_model.pt")


def test_a_failed_sealing_leaves_what_was_there(tmp_path: Path) -> None:
    folder = first_pull(tmp_path).folder

    def fails(_: bytes, name: str) -> bytes:
        raise ModelError(f"{name}: no")

    with pytest.raises(ModelError, match="no"):
        pull("m2fp", tmp_path, accept=never, hub=NoHub(), seal=fails)
    assert pulled_folder("m2fp", tmp_path) == (folder, PINNED)
    assert all(result.ok for result in verify_pulled(tmp_path))


def test_the_vault_s_sealing_opens_again_and_no_plain_byte_stays(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from m2fp_stream.models import vault

    key = vault.new_key_file(tmp_path / "key")
    store = tmp_path / "store"
    folder = first_pull(store, seal=lambda data, name: vault.seal(data, key, name)).folder
    stored = (folder / "pytorch_model.pt").read_bytes()
    assert vault.is_sealed(stored)
    assert vault.unseal(stored, key, "pytorch_model.pt") == WEIGHTS
    for path in store.rglob("*"):
        assert not path.is_file() or b"\1\1\1\1" not in path.read_bytes()


# --------------------------------------------------------------------------------------------------
# Where


@pytest.mark.parametrize("given", ["", "relative/path"])
def test_without_an_absolute_data_home_the_store_is_in_the_home(given: str) -> None:
    expected = Path.home() / ".local" / "share" / "m2fp-stream" / "models"
    assert store_folder({"XDG_DATA_HOME": given}) == expected
    assert store_folder({}) == expected


def test_the_store_follows_the_data_home() -> None:
    assert store_folder({"XDG_DATA_HOME": "/data"}) == Path("/data/m2fp-stream/models")


# --------------------------------------------------------------------------------------------------
# ModelScope's own client


class _Handler(BaseHTTPRequestHandler):
    """What the client asks for: a list of the files, and ranges of their bytes."""

    server: HubServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.server.requests.append(
            (url.path, query.get("FilePath", ""), dict(self.headers.items()))
        )
        if url.path == f"/api/v1/models/{MODEL_ID}/repo/files" and query["Revision"] == "v1.0.1":
            files = [
                {"Path": name, "Name": name, "Type": "blob", "Size": len(data), "Sha256": digest}
                for name, (data, digest) in self.server.listed.items()
            ]
            self._answer(200, json.dumps({"Code": 200, "Data": {"Files": files}}).encode())
        elif url.path == f"/api/v1/models/{MODEL_ID}/repo" and query["Revision"] == "v1.0.1":
            self._send_file(self.server.files[query["FilePath"]])
        else:
            self._answer(404, b'{"Code": 10010205001, "Message": "no such thing"}')

    def _send_file(self, data: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data) - begin))
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        end = len(data)
        if self.server.stall_at is not None and begin < self.server.stall_at < end:
            end = self.server.stall_at
        try:
            self.wfile.write(data[begin:end])
            self.wfile.flush()
            if end < len(data):
                self.server.stalled.set()
                self.server.go_on.wait(300)
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.close_connection = True

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class HubServer(ThreadingHTTPServer):
    """A hub on this machine; `files` is what it gives, `listed` what it says that it gives."""

    daemon_threads = False

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = dict(files)
        self.listed = {name: (data, sha256(data)) for name, data in files.items()}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.stall_at: int | None = None
        self.stalled = threading.Event()
        self.go_on = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


BIG = checkpoint(3, 6_000_000)  # the client writes pieces of 1 MiB


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    if importlib.util.find_spec("modelscope") is None:  # to import it would load torch
        pytest.skip("modelscope is not installed: its client cannot be tested")
    extra = {"README.md": b"# Model", "samples/pytorch_model.pt": b"another"}
    with HubServer({"configuration.json": CONFIGURATION, "pytorch_model.pt": BIG, **extra}) as hub:
        home = tmp_path / "home"
        home.mkdir()
        for name in [name for name in os.environ if name.startswith("MODELSCOPE_")]:
            monkeypatch.delenv(name)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("MODELSCOPE_DOWNLOAD_MAX_RETRIES", "1")
        monkeypatch.setenv("MODELSCOPE_API_MAX_RETRIES", "1")
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("MODELSCOPE_HOME", str(home / "settings"))
        monkeypatch.setenv("MODELSCOPE_CACHE", str(home / "cache"))
        thread = threading.Thread(target=hub.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            hub.go_on.set()
            hub.shutdown()
            thread.join()
        assert list(home.iterdir()) == [], "the client wrote into the user's folders"


def test_the_client_fetches_the_two_files_and_no_other(server: HubServer, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    store = tmp_path / "store"
    pulled = pull("m2fp", store, accept=yes, progress=lambda *facts: told.append(facts))
    assert (pulled.folder / "pytorch_model.pt").read_bytes() == BIG
    assert pulled.files["pytorch_model.pt"] == sha256(BIG)
    assert names(store) == STORED
    assert {file for _, file, _ in server.requests if file} == set(PINNED)
    assert ("pytorch_model.pt", len(BIG), len(BIG)) in told
    assert {total for file, _, total in told if file == "pytorch_model.pt"} == {len(BIG)}


def test_the_client_tells_the_hub_no_login_and_no_lasting_number(
    server: HubServer, tmp_path: Path
) -> None:
    """The client numbers installations; two pulls of one user are not to be linked by it."""
    sent = []
    for store in ("one", "two"):
        server.requests.clear()
        pull("m2fp", tmp_path / store, accept=yes)
        agents = " ".join(headers["User-Agent"] for _, file, headers in server.requests if file)
        sent.append(set(re.findall(r"session_id/(\w+)", agents)))
        for _, _, headers in server.requests:
            assert not {"authorization", "cookie"} & {name.lower() for name in headers}
        assert not any("internalAcceleration" in path for path, _, _ in server.requests)
    assert sent[0]
    assert not sent[0] & sent[1]


def test_the_client_goes_on_after_ctrl_c(server: HubServer, tmp_path: Path) -> None:
    """The whole program is interrupted, as from a terminal: all its processes get the signal."""
    store = tmp_path / "store"
    server.stall_at = 4_000_000
    script = (
        "import sys; from pathlib import Path; from m2fp_stream.models.pull import pull\n"
        "pull('m2fp', Path(sys.argv[1]), accept=lambda model: True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(store)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    part = store / "m2fp" / ".v1.0.1.part"
    try:
        assert server.stalled.wait(120)
        wait_until(lambda: any(path.stat().st_size >= 2**20 for path in part.glob("*.incomplete")))
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode not in (0, None)
    assert b"KeyboardInterrupt" in error
    assert not (store / "m2fp" / "v1.0.1").exists()
    server.stall_at = None
    server.go_on.set()
    server.requests.clear()
    assert pull("m2fp", store, accept=never).files["pytorch_model.pt"] == sha256(BIG)
    (range_,) = [
        headers.get("Range", "")
        for _, file, headers in server.requests
        if file == "pytorch_model.pt"
    ]
    assert int(range_.removeprefix("bytes=").removesuffix("-")) >= 2**20
    assert names(store) == STORED


def test_the_client_finds_a_file_that_is_not_the_listed_one(
    server: HubServer, tmp_path: Path
) -> None:
    server.files["pytorch_model.pt"] = BIG[:-1] + b"x"
    with pytest.raises(ModelError, match=r"did not deliver pytorch_model\.pt \(\w*Error\)"):
        pull("m2fp", tmp_path / "store", accept=yes)


def test_what_changed_in_the_list_and_the_file_is_found_by_the_pin(
    server: HubServer, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    pull("m2fp", store, accept=yes)
    lose(store)
    server.files["pytorch_model.pt"] = WEIGHTS
    server.listed["pytorch_model.pt"] = WEIGHTS, sha256(WEIGHTS)
    with pytest.raises(ModelError, match="has changed"):
        pull("m2fp", store, accept=never)


def test_a_revision_or_file_that_the_hub_lacks_is_one_line(
    server: HubServer, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"did not deliver configuration\.json \(\w+\)"):
        pull("m2fp", tmp_path / "store", accept=yes, revision="v9")
    del server.listed["pytorch_model.pt"]
    with pytest.raises(ModelError, match=r"pytorch_model\.pt \(FileNotFoundError\)"):
        pull("m2fp", tmp_path / "store", accept=never)


def test_nobody_at_the_address_is_one_line(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubServer({}) as gone:
        endpoint = gone.endpoint
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", endpoint)
    with pytest.raises(ModelError, match=r"did not deliver configuration\.json \(\w+\)") as caught:
        pull("m2fp", tmp_path / "store", accept=yes)
    assert "127.0.0.1" not in str(caught.value)


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_disk_that_the_client_finds_full_is_the_disk_s_error(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files stands for a full disk: both fail a write with an errno."""
    real = subprocess.Popen

    def limited(command: list[str], **arguments: Any) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-c", LIMITED, *command], **arguments)

    monkeypatch.setattr(subprocess, "Popen", limited)
    with pytest.raises(ModelError, match="cannot be used"):
        pull("m2fp", tmp_path / "store", accept=yes)


def test_without_the_client_the_message_names_the_extra_before_the_licence_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(ModelError, match=r"pip install 'm2fp-stream\[m2fp\]'"):
        pull("m2fp", tmp_path, accept=never)
    with pytest.raises(ModelError, match=r"m2fp-stream\[m2fp\]"):
        ModelScopeHub()
    first_pull(tmp_path)
    pull("m2fp", tmp_path, accept=never)  # what is here needs no client


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def snapshot_download(model_id): pass", "update it"),
        ("raise ImportError", "update it"),
        ("import os; os._exit(9)", r"\(ProcessDied\)"),
        (
            "def snapshot_download(model_id, *, progress_callbacks, **_): raise ValueError('x')",
            r"\(ValueError\)",
        ),
        (
            "def snapshot_download(model_id, *, progress_callbacks, **_): print('{}')",
            r"\(FileNotFoundError\)",
        ),
    ],
)
def test_a_client_of_another_kind_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    package = tmp_path / "site" / "modelscope" / "hub"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "snapshot_download.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in [name for name in sys.modules if name.split(".")[0] == "modelscope"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModelError, match=says):
        pull("m2fp", tmp_path / "store", accept=yes)
