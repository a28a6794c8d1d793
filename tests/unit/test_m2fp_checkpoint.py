"""A checkpoint is taken whole, as published and of the hash expected, or not at all.

Files of the right names and shapes are made small: every parameter is one number, repeated by a
stride of 0, so that 63 million of them fit into a few hundred kilobytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m2fp_stream.core.errors import ModelError
from m2fp_stream.parsers.m2fp import checkpoint
from m2fp_stream.parsers.m2fp.checkpoint import Checkpoint, read_checkpoint
from m2fp_stream.parsers.m2fp.labels import Kind
from m2fp_stream.parsers.m2fp.layers import require_torch
from m2fp_stream.parsers.m2fp.model import M2FP

CIHP_NAMES = [
    *("Background", "Hat", "Hair", "Gloves", "Sunglasses", "UpperClothes", "Dress", "Coat"),
    *("Socks", "Pants", "Torso-skin", "Scarf", "Skirt", "Face", "Left-arm", "Right-arm"),
    *("Left-leg", "Right-leg", "Left-shoe", "Right-shoe", "Human"),
]
BIAS = "sem_seg_head.predictor.class_embed.bias"
HEAD = "sem_seg_head.predictor.class_embed.weight"


def configuration(kind: Kind = Kind.CIHP) -> dict[str, Any]:
    """What ModelScope's file says of the published models, as far as is known."""
    single = kind is Kind.LIP
    return {
        "framework": "pytorch",
        "task": "image-segmentation",
        "pipeline": {"type": "m2fp-image-human-parsing"},
        "model": {
            "type": "m2fp",
            "pretrained": True,
            "single_human": single,
            "backbone": {
                "depth": 101,
                "stride_in_1x1": False,
                "res4_dilation": 1,
                "res5_dilation": 1,
                "res5_multi_grid": [1, 1, 1],
            },
            "encoder": {"transformer_nheads": 8, "common_stride": 4},
            "decoder": {"num_classes": 20 if single else 21, "num_queries": 100, "nheads": 8},
            "classes": CIHP_NAMES[:20] if single else CIHP_NAMES,
        },
    }


def small_state(torch: Any, kind: Kind = Kind.CIHP) -> dict[str, Any]:
    """Every parameter of the network, all its numbers the same."""
    with torch.device("meta"):
        wanted = M2FP(kind.classes, (32, 32)).state_dict()
    return {
        name: torch.full((1,), 0.5 + number / 1000).expand(value.shape)
        for number, (name, value) in enumerate(wanted.items())
    }


def write(folder: Path, weights: bytes, document: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "configuration.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "pytorch_model.pt").write_bytes(weights)
    return folder


def refusal(folder: Path, **arguments: Any) -> str:
    """Returns the message with which `folder` is refused; it has to be fit for stderr."""
    with pytest.raises(ModelError) as caught:
        read_checkpoint(folder, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder.parent) not in message, "it names a place of the user's disk"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return message


@pytest.fixture(name="torch")
def torch_fixture() -> Any:
    torch = pytest.importorskip("torch", reason="the extra m2fp is not installed")
    torch.set_num_threads(1)  # more wait for each other here
    return torch


@pytest.fixture
def save(torch: Any, tmp_path: Path) -> Callable[..., Path]:
    """Writes a model folder; `change` may replace parameters (by None: leave out)."""

    def saved(
        kind: Kind = Kind.CIHP,
        *,
        change: dict[str, Any] | None = None,
        wrap: Callable[[dict[str, Any]], Any] = lambda state: {"model": state},
        document: object = None,
    ) -> Path:
        state = small_state(torch, kind) | (change or {})
        state = {name: value for name, value in state.items() if value is not None}
        folder = write(tmp_path / "weights", b"", document or configuration(kind))
        torch.save(wrap(state), folder / "pytorch_model.pt")
        return folder

    return saved


# ------------------------------------------------------------------ without torch


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "maskdino"}, "another type"),
        ({"single_human": True}, "contradicts itself"),
        ({"decoder": {"num_classes": 20}}, "contradicts itself"),
        ({"decoder": {"num_classes": 7}}, "is 7, expected 21"),
        ({"decoder": {"nheads": 4}}, "decoder.nheads is not 8"),
        ({"decoder": {"pre_norm": True}}, "decoder.pre_norm is not False"),
        ({"backbone": {"res5_dilation": 2}}, "backbone.res5_dilation is not 1"),
        ({"backbone": {"stride_in_1x1": True}}, "backbone.stride_in_1x1"),
        ({"encoder": {"transformer_nheads": 4}}, "encoder.transformer_nheads"),
        ({"classes": CIHP_NAMES[:-1]}, "contradicts itself"),
        ({"classes": CIHP_NAMES[:13] + CIHP_NAMES[:-14:-1][:8]}, "has face at another place"),
        ({"classes": [CIHP_NAMES[0], *CIHP_NAMES[:0:-1]]}, "has hat, hair, face at another place"),
        ({"classes": ["Background", "Head"]}, "length of model.classes is 2"),
    ],
)
def test_a_configuration_of_another_network_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    document = configuration()
    document["model"] |= change
    assert said in refusal(write(tmp_path / "weights", b"never read", document))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"model": []}', "[" * 100_000, "\xff"])
def test_a_garbled_configuration_is_refused(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path / "weights", b"never read", {})
    (folder / "configuration.json").write_text(text, encoding="latin-1")
    assert "weights/configuration.json" in refusal(folder)


@pytest.mark.parametrize("name", ["configuration.json", "pytorch_model.pt"])
def test_a_missing_file_is_named_and_the_message_says_what_to_do(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "weights", b"weights", configuration())
    (folder / name).unlink()
    message = refusal(folder)
    assert f"no file {name}" in message
    assert "pull" in message
    (folder / name).mkdir()
    assert f"no file {name}" in refusal(folder)
    (folder / name).rmdir()
    os.mkfifo(folder / name)  # opening it would wait for ever
    assert f"no file {name}" in refusal(folder)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    assert "no model folder 'nowhere'" in refusal(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "models pull m2fp" in refusal(tmp_path / "file")


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "weights", b"weights", configuration())

    def refused(self: Path, mode: str) -> None:
        raise PermissionError(13, "no", str(self))

    monkeypatch.setattr(Path, "open", refused)  # root may read everything
    message = refusal(folder)
    assert "cannot read weights/configuration.json (PermissionError)" in message
    assert "permissions" in message


def test_a_file_far_too_large_is_refused_unread(tmp_path: Path) -> None:
    folder = write(tmp_path / "weights", b"", configuration())
    os.truncate(folder / "pytorch_model.pt", (2 << 30) + 1)  # a hole: it takes no space
    assert "2147483649 bytes, expected 2147483648 at most" in refusal(folder)
    os.truncate(folder / "configuration.json", (1 << 20) + 1)
    assert "1048577 bytes, expected 1048576 at most" in refusal(folder)


def test_the_current_folder_has_a_name_in_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(tmp_path / "weights", b"", {}))
    with pytest.raises(ModelError, match=r"^weights/configuration\.json"):
        read_checkpoint(Path())


def test_other_bytes_than_expected_are_refused_before_they_are_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed(*_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(checkpoint, "_parsed", parsed)
    monkeypatch.setattr(checkpoint, "require_torch", lambda: None)
    folder = write(tmp_path / "weights", b"weights", configuration())
    right = hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(AssertionError, match="parsed"):  # so the check below means something
        read_checkpoint(folder, sha256=right.upper())
    (folder / "pytorch_model.pt").write_bytes(b"Weights")
    message = refusal(folder, sha256=right)
    assert right in message
    assert hashlib.sha256(b"Weights").hexdigest() in message


def test_the_other_kind_is_refused_by_its_configuration(tmp_path: Path) -> None:
    folder = write(tmp_path / "weights", b"never read", configuration(Kind.LIP))
    message = refusal(folder, expected=Kind.CIHP)
    assert "weights holds the lip model (one person), expected cihp (many people)" in message


def test_an_error_of_the_decryption_is_told_without_its_text(tmp_path: Path) -> None:
    folder = write(tmp_path / "weights", b"sealed", configuration())

    def fails(_: bytes) -> bytes:
        raise ValueError("the key is 1234")

    message = refusal(folder, unseal=fails)
    assert "cannot decrypt weights/pytorch_model.pt (ValueError)" in message
    assert "1234" not in message

    def refuses(_: bytes) -> bytes:
        raise ModelError("the key is of another file")

    with pytest.raises(ModelError, match=r"^the key is of another file$"):
        read_checkpoint(folder, unseal=refuses)


def test_without_torch_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sys.modules[require_torch.__module__]
    monkeypatch.setattr(model, "torch", None)
    folder = write(tmp_path / "weights", b"weights", configuration())
    assert "pip install 'm2fp-stream[m2fp]'" in refusal(folder)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from m2fp_stream.core.errors import ModelError
from m2fp_stream.parsers.m2fp import checkpoint, export, model
for make in (
    model.require_torch,
    lambda: model.M2FP(21, (32, 32)),
    lambda: export.to_onnx(None, (32, 32)),
):
    try:
        make()
    except ModelError as error:
        print(error)
"""


def test_the_modules_can_be_looked_at_without_torch() -> None:
    root = Path(checkpoint.__file__).parents[3]
    command = [sys.executable, "-c", WITHOUT_TORCH]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.count("pip install 'm2fp-stream[m2fp]'") == 3, done.stderr


# ------------------------------------------------------------------ with torch


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: {"model": state, "iteration": 3}, id="as published"),
        pytest.param(lambda state: state, id="the parameters alone"),
    ],
)
def test_a_published_folder_is_read_whole(
    save: Callable[..., Path], torch: Any, kind: Kind, wrap: Callable[..., Any]
) -> None:
    folder = save(kind, wrap=wrap)
    data = (folder / "pytorch_model.pt").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    read = read_checkpoint(folder, expected=kind, sha256=digest)
    assert isinstance(read, Checkpoint)
    assert read.kind is kind
    assert read.sha256 == digest
    wanted = small_state(torch, kind)
    assert read.state.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(read.state[name], value)
        assert read.state[name].dtype == torch.float32
        assert read.state[name].is_contiguous()
    assert read.state[HEAD].shape == (kind.classes + 1, 256)


def test_a_configuration_that_says_little_leaves_it_to_the_weights(
    save: Callable[..., Path],
) -> None:
    document: dict[str, Any] = {
        "model": {"backbone": "resnet", "decoder": [], "classes": None, "new": {}}
    }
    assert read_checkpoint(save(Kind.LIP, document=document)).kind is Kind.LIP
    assert "the number of classes is 6" in refusal(
        save(Kind.LIP, document=document, change={HEAD: pytest.importorskip("torch").zeros(7, 256)})
    )
    message = refusal(save(Kind.LIP, document=document), expected=Kind.CIHP)
    assert "weights holds the lip model" in message


def test_what_belongs_to_training_is_left_out(save: Callable[..., Path], torch: Any) -> None:
    leftovers = {
        "backbone.stem.conv1.norm.num_batches_tracked": torch.tensor(7),
        "criterion.empty_weight": torch.ones(22),
        "pixel_mean": torch.ones(3, 1, 1),
    }
    assert not leftovers.keys() & read_checkpoint(save(change=leftovers)).state.keys()


def test_half_precision_is_widened_and_parameters_are_taken(
    save: Callable[..., Path], torch: Any
) -> None:
    value = torch.full((22,), 0.1)
    read = read_checkpoint(save(change={BIAS: torch.nn.Parameter(value.half())}))
    assert read.state[BIAS].dtype == torch.float32
    assert torch.equal(read.state[BIAS], value.half().float())
    assert not read.state[BIAS].requires_grad


def test_sealed_weights_are_hashed_as_they_were_before(save: Callable[..., Path]) -> None:
    folder = save()
    plain = (folder / "pytorch_model.pt").read_bytes()
    (folder / "pytorch_model.pt").write_bytes(plain[::-1])
    digest = hashlib.sha256(plain).hexdigest()
    read = read_checkpoint(folder, sha256=digest, unseal=lambda data: data[::-1])
    assert read.sha256 == digest
    assert "cannot be read" in refusal(folder)


def test_files_of_two_models_are_refused(save: Callable[..., Path]) -> None:
    message = refusal(save(Kind.LIP, document=configuration(Kind.CIHP)))
    assert "configuration.json says cihp, pytorch_model.pt has the classes of lip" in message


class _Trap:
    """Unpickled by Python's own reader, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["zip", "plain pickle"])
def test_code_in_the_file_does_not_run(
    save: Callable[..., Path], torch: Any, tmp_path: Path, form: str
) -> None:
    marker = tmp_path / "ran"
    folder = save(wrap=lambda state: {"model": state, "trap": _Trap(marker)})
    file = folder / "pytorch_model.pt"
    if form == "plain pickle":
        file.write_bytes(pickle.dumps({"model": {HEAD: _Trap(marker)}}))
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert marker.exists(), "the trap would never have closed"
    marker.rmdir()
    assert "holds code, which is never run" in refusal(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 4096, b"PK\x03\x04" + bytes(64), b"<html>sign in</html>"]
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, torch: Any, data: bytes) -> None:
    message = refusal(write(tmp_path / "weights", data, configuration()))
    assert "weights/pytorch_model.pt cannot be read" in message
    assert "pull" in message


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_anywhere_is_refused(save: Callable[..., Path], share: float) -> None:
    folder = save()
    file = folder / "pytorch_model.pt"
    os.truncate(file, int(file.stat().st_size * share))
    assert "cut off" in refusal(folder)


@pytest.mark.parametrize("content", [[1, 2], {"model": 3}, {1: 2}, {"model": {3: 4}}, "text", {}])
def test_content_of_another_form_is_refused(tmp_path: Path, torch: Any, content: object) -> None:
    folder = write(tmp_path / "weights", b"", configuration())
    torch.save(content, folder / "pytorch_model.pt")
    assert "weights/pytorch_model.pt is n" in refusal(folder)


def test_missing_parameters_are_counted_and_the_first_are_named(
    save: Callable[..., Path], torch: Any
) -> None:
    names = [name for name in sorted(small_state(torch)) if ".res3." in name]
    message = refusal(save(change=dict.fromkeys(names)))
    assert f"lacks {', '.join(names[:3])} and {len(names) - 3} more;" in message
    assert names[3] not in message
    assert f"lacks {BIAS};" in refusal(save(change={BIAS: None}))
    assert f"lacks {HEAD};" in refusal(save(change={HEAD: None}))


def test_parameters_that_m2fp_does_not_know_are_refused(
    save: Callable[..., Path], torch: Any
) -> None:
    extra = {"backbone.res6.weight": torch.zeros(1), "bad\nname\x1b[31m": torch.zeros(1)}
    message = refusal(save(change=extra))
    assert "does not know: backbone.res6.weight, (garbled);" in message


@pytest.mark.parametrize("shape", [(22, 255), (22, 256, 1), (256, 22)])
def test_a_parameter_of_another_shape_is_refused(
    save: Callable[..., Path], torch: Any, shape: tuple[int, ...]
) -> None:
    name = "sem_seg_head.predictor.decoder_norm.weight"
    assert f"other shapes than M2FP's: {name};" in refusal(save(change={name: torch.zeros(shape)}))


def test_what_is_no_dense_tensor_of_floats_is_refused(
    save: Callable[..., Path], torch: Any
) -> None:
    wrong = [
        torch.zeros(22, dtype=torch.int64),
        torch.zeros(22, dtype=torch.complex64),
        torch.zeros(22, device="meta"),
        [0.0] * 22,
        0.5,
    ]
    for value in wrong:
        assert f"no dense tensor of floats: {BIAS};" in refusal(save(change={BIAS: value}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_a_parameter_that_is_not_finite_is_refused(
    save: Callable[..., Path], torch: Any, value: float
) -> None:
    bias = torch.zeros(22, dtype=torch.float64)
    bias[21] = value  # the last of 63 million; 1e300 is infinite as float32
    assert f"with NaN or infinity: {BIAS};" in refusal(save(change={BIAS: bias}))
