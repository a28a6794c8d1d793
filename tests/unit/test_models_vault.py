"""Sealed weights open with their key, under their name, unchanged, and in no other case."""

from __future__ import annotations

import copy
import os
import pickle
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2fp_stream.core.errors import ModelError, UsageError
from m2fp_stream.models.vault import (
    Key,
    is_sealed,
    key_from_file,
    key_from_keyring,
    new_key_file,
    open_key,
    seal,
    unseal,
)

pytest.importorskip("cryptography")

KEY = Key(bytes(range(32)))
OTHER = Key(bytes(32))
NAME = "pytorch_model.pt"
PLAIN = b"weights " * 100


@given(st.binary(max_size=300), st.text(st.characters(codec="utf-8"), max_size=20))
def test_what_was_sealed_comes_back(plain: bytes, name: str) -> None:
    sealed = seal(plain, KEY, name)
    assert is_sealed(sealed)
    assert unseal(sealed, KEY, name) == plain


def test_nothing_of_the_content_shows_and_no_two_sealings_are_alike() -> None:
    one, two = seal(PLAIN, KEY, NAME), seal(PLAIN, KEY, NAME)
    assert b"weights" not in one
    assert one[-40:] != two[-40:]
    assert not is_sealed(PLAIN)


def test_format_is_what_the_docstring_says() -> None:
    """A file sealed by hand, with the library alone, opens; so will those of earlier versions."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    header, nonce = b"M2FPSEAL\x01", bytes(12)
    content = AESGCM(bytes(range(32))).encrypt(nonce, PLAIN, header + NAME.encode())
    assert unseal(header + nonce + content, KEY, NAME) == PLAIN


def opens_not(sealed: bytes, key: Key = KEY, name: str = NAME) -> str:
    with pytest.raises(ModelError) as caught:
        unseal(sealed, key, name)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_whatever_is_wrong_the_message_is_the_same() -> None:
    sealed = seal(PLAIN, KEY, NAME)
    messages = {opens_not(sealed, key=OTHER)}
    for place in (9, 20, 21, 100, len(sealed) - 17, len(sealed) - 1):  # nonce, content, tag
        changed = bytearray(sealed)
        changed[place] ^= 1
        messages.add(opens_not(bytes(changed)))
    for length in (8, 9, 20, 21, 36, 37, len(sealed) - 1):
        messages.add(opens_not(sealed[:length]))
    messages.add(opens_not(sealed + b"\0"))
    messages.add(opens_not(sealed[:8] + b"\0" + sealed[9:]))  # another version's number
    (message,) = messages
    assert "another key or was changed" in message
    assert "\n" not in message


def test_another_file_s_name_does_not_open_it() -> None:
    sealed = seal(PLAIN, KEY, "other.pt")
    assert "another key or was changed" in opens_not(sealed)


def test_a_plain_file_and_a_newer_version_are_told_apart() -> None:
    assert "is not sealed" in opens_not(PLAIN)
    assert "newer version" in opens_not(b"M2FPSEAL\x02" + bytes(100))


def test_more_than_one_sealing_takes_is_refused_before_it_is_tried() -> None:
    too_many = bytes(2**31 - 16)  # zeros that nobody touches take no memory
    with pytest.raises(ModelError, match="too many to seal"):
        seal(too_many, KEY, NAME)


def test_without_the_library_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = seal(PLAIN, KEY, NAME)
    for module in ("cryptography.exceptions", "cryptography.hazmat.primitives.ciphers.aead"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelError, match=r"m2fp-stream\[vault\]"):
        seal(PLAIN, KEY, NAME)
    with pytest.raises(ModelError, match=r"m2fp-stream\[vault\]"):
        unseal(sealed, KEY, NAME)


# --------------------------------------------------------------------------------------------------
# Keys


def test_a_key_does_not_show() -> None:
    assert repr(KEY) == str(KEY) == f"{KEY}" == "<Key>"
    assert not hasattr(KEY, "__dict__")
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(KEY)
    with pytest.raises(TypeError, match="never pickled"):
        copy.copy(KEY)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ModelError, match=f"not {length}"):
        Key(bytes(length))


def same(one: Key, two: Key) -> bool:
    return unseal(seal(PLAIN, one, NAME), two, NAME) == PLAIN


def test_a_new_key_file_is_its_owner_s_alone_and_opens_what_it_sealed(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        key = new_key_file(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert same(key, key_from_file(path))
    new_key_file(tmp_path / "key2")
    assert len(path.read_text()) == 65
    assert path.read_text() != (tmp_path / "key2").read_text()


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    new_key_file(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="never overwritten"):
        new_key_file(path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="never overwritten"):
        new_key_file(link)
    assert path.read_bytes() == before
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_file_in_no_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be made"):
        new_key_file(tmp_path / "none" / "key")


def write_key(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "content",
    [
        bytes(range(32)),
        bytes(range(32)).hex().encode(),
        b" " + bytes(range(32)).hex().upper().encode() + b"\r\n",
    ],
)
def test_raw_and_hexadecimal_keys_are_read(tmp_path: Path, content: bytes) -> None:
    assert same(KEY, key_from_file(write_key(tmp_path / "key", content)))


@pytest.mark.parametrize(
    "content",
    [b"", b"0" * 63, b"0" * 65, b"g" * 64, bytes(31), bytes(33), b"0" * 1000, b"00 " * 32],
)
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = write_key(tmp_path / "key", content)
    with pytest.raises(ModelError, match="holds no key") as caught:
        key_from_file(path)
    assert "000" not in str(caught.value)
    assert "ggg" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700, 0o644])
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_key(tmp_path / "key", bytes(32), mode)
    with pytest.raises(ModelError, match=f"{mode:04o}.*chmod 600"):
        key_from_file(path)


def test_a_stricter_key_file_is_fine(tmp_path: Path) -> None:
    assert same(OTHER, key_from_file(write_key(tmp_path / "key", bytes(32), 0o400)))


def test_no_file_a_folder_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        key_from_file(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for odd in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ModelError, match=r"cannot be read|no regular file"):
            key_from_file(odd)


# --------------------------------------------------------------------------------------------------
# The keyring


@pytest.fixture
def keyring_passwords() -> Iterator[dict[tuple[str, str], str]]:
    """The system's keyring is one of ours, in memory."""
    keyring = pytest.importorskip("keyring")
    from keyring.backend import KeyringBackend

    passwords: dict[tuple[str, str], str] = {}

    class InMemory(KeyringBackend):
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            return passwords.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            passwords[service, username] = password

    before = keyring.get_keyring()
    keyring.set_keyring(InMemory())  # type: ignore[no-untyped-call]  # keyring's own
    yield passwords
    keyring.set_keyring(before)


def test_the_keyring_makes_a_key_once(
    keyring_passwords: dict[tuple[str, str], str],
) -> None:
    with pytest.raises(ModelError, match="holds no key"):
        key_from_keyring()
    assert not keyring_passwords
    key = key_from_keyring(create=True)
    assert set(keyring_passwords) == {("m2fp-stream", "weights")}
    assert same(key, key_from_keyring())
    assert same(key, key_from_keyring(create=True))


def test_a_key_is_named_by_its_file_or_as_the_keyring_s(
    keyring_passwords: dict[tuple[str, str], str], tmp_path: Path
) -> None:
    key = new_key_file(tmp_path / "key")
    assert same(key, open_key(str(tmp_path / "key")))
    with pytest.raises(ModelError, match="holds no key"):
        open_key("keyring")
    assert not keyring_passwords
    assert same(key_from_keyring(create=True), open_key("keyring"))


def test_something_else_in_the_keyring_is_refused_and_kept(
    keyring_passwords: dict[tuple[str, str], str],
) -> None:
    keyring_passwords["m2fp-stream", "weights"] = "hunter2"
    with pytest.raises(ModelError, match="no key") as caught:
        key_from_keyring(create=True)
    assert "hunter2" not in str(caught.value)
    assert keyring_passwords["m2fp-stream", "weights"] == "hunter2"


def test_a_machine_without_a_keyring_gets_one_line(
    keyring_passwords: dict[tuple[str, str], str],
) -> None:
    import keyring
    from keyring.backends import fail

    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]  # keyring's own
    with pytest.raises(ModelError, match=r"NoKeyringError.*in a file"):
        key_from_keyring(create=True)


def test_without_keyring_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ModelError, match=r"m2fp-stream\[vault\]"):
        key_from_keyring()
