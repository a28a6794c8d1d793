"""Seals stored weights, so that what lies on the disk is of no use without a key.

A sealed file is ``M2FPSEAL``, one byte of version, a random nonce of 12 bytes, then the weights
under AES-256-GCM with the tag of 16 bytes behind them. Magic, version and the file's name are
authenticated along: a sealed file does not open under another name. Unsealed bytes exist in memory
only. Whoever loses the key pulls the weights again: nothing else is sealed with it.

Source: NIST SP 800-38D: nonces of 96 random bits are good for 2^32 sealings under one key.
"""

from __future__ import annotations

import binascii
import os
import secrets
import stat
from pathlib import Path
from typing import Final, NoReturn, final

from ..core.errors import ModelError, UsageError

__all__ = [
    "Key",
    "is_sealed",
    "key_from_file",
    "key_from_keyring",
    "new_key_file",
    "open_key",
    "seal",
    "unseal",
]

KEY_BYTES: Final = 32
"""AES-256. Source: NIST FIPS 197."""
KEYRING_SERVICE: Final = "m2fp-stream"
KEYRING_USER: Final = "weights"

_MAGIC: Final = b"M2FPSEAL"
_VERSION: Final = 1
_HEADER: Final = _MAGIC + bytes([_VERSION])
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
"""Source: NIST SP 800-38D, 5.2.1.1 and 5.2.1.2."""
_MOST_BYTES: Final = 2**31 - 1
"""What one call of `cryptography`'s AES-GCM takes; its documentation says so."""

_INSTALL: Final = "pip install 'm2fp-stream[vault]'"


@final
class Key:
    """32 secret bytes, which no message, log or pickle shows.

    Raises:
        ModelError: `secret` has another length.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ModelError(f"a key has {KEY_BYTES} bytes, not {len(secret)}; make a new one")
        self._secret = bytes(secret)

    def __repr__(self) -> str:
        return "<Key>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled or copied")


def new_key_file(path: Path) -> Key:
    """Makes a random key and writes it, in hexadecimal, to a new file with rights 0600.

    Raises:
        UsageError: there is something at `path` already; it is untouched.
        ModelError: the file cannot be written; none is left behind.
    """
    secret = secrets.token_bytes(KEY_BYTES)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # EXCL follows no link
    try:
        fd = os.open(path, flags, 0o600)
    except FileExistsError:
        raise UsageError(f"{path}: is there already; a key is never overwritten") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be made ({error.strerror}); choose another") from None
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, 0o600)  # whatever the umask
            file.write(secret.hex().encode() + b"\n")
            file.flush()
            os.fsync(fd)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ModelError(f"{path}: cannot be written ({error.strerror}); choose another") from None
    return Key(secret)


def key_from_file(path: Path) -> Key:
    """Returns the key in a file: 32 raw bytes, or 64 hexadecimal digits.

    Raises:
        ModelError: no such file, it holds no key, or others than its owner have rights to it.
    """
    try:
        # A pipe that nobody writes to must not hang.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(fd).st_mode  # of the very file that is read
            content = file.read(256) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise ModelError(
            f"{path}: the key cannot be read ({error.strerror}); name the file that has it"
        ) from None
    if not stat.S_ISREG(mode):
        raise ModelError(f"{path}: is no regular file; name the file that has the key")
    if stat.S_IMODE(mode) & ~0o600:
        raise ModelError(
            f"{path}: has the rights {stat.S_IMODE(mode):04o}, but a key is for its owner alone; "
            f"run: chmod 600 {path}"
        )
    if len(content) == KEY_BYTES:
        return Key(content)
    secret = _from_hex(content)
    if secret is None:
        raise ModelError(
            f"{path}: holds no key; expected {KEY_BYTES} bytes or {2 * KEY_BYTES} hexadecimal "
            "digits and nothing else"
        )
    return Key(secret)


def key_from_keyring(*, create: bool = False) -> Key:
    """Returns the key that the operating system's keyring holds for this program.

    How well it is kept is up to the keyring that the system is set up with.

    Args:
        create: where there is none, make one and store it.

    Raises:
        ModelError: `keyring` is not installed, no keyring answers, or it holds no key.
    """
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise ModelError(f"the system's keyring needs `keyring`: {_INSTALL}") from None
    try:
        found = keyring.get_password(KEYRING_SERVICE, KEYRING_USER)
        if found is None and create:
            keyring.set_password(
                KEYRING_SERVICE, KEYRING_USER, secrets.token_bytes(KEY_BYTES).hex()
            )
            found = keyring.get_password(KEYRING_SERVICE, KEYRING_USER)
    except (KeyringError, OSError, RuntimeError) as error:
        raise ModelError(
            f"the system's keyring does not answer ({type(error).__name__}); unlock it, or keep "
            "the key in a file"
        ) from None
    secret = None if found is None else _from_hex(found.encode("utf-8", "replace"))
    if secret is None:
        what = "holds no key" if found is None else "holds something that is no key"
        raise ModelError(
            f"the system's keyring {what} for {KEYRING_SERVICE!r}; pull and seal the weights "
            "again, or name the file that has the key"
        )
    return Key(secret)


def open_key(where: str) -> Key:
    """Returns the key that `where` names: a file, or ``keyring`` for the system's.

    Raises:
        ModelError: there is none there, or others have rights to it.
    """
    return key_from_keyring() if where == "keyring" else key_from_file(Path(where))


def is_sealed(data: bytes) -> bool:
    """Says whether `data` begins like a sealed file, of whatever version."""
    return data[: len(_MAGIC)] == _MAGIC


def seal(plain: bytes, key: Key, name: str) -> bytes:
    """Returns `plain` sealed under `key` as the file `name`.

    Who replaces a file by its sealed form deletes the plain one; a solid-state disk may keep its
    old blocks for a while all the same.

    Raises:
        ModelError: `cryptography` is not installed, or there is too much to seal at once.
    """
    if len(plain) > _MOST_BYTES - _TAG_BYTES:
        raise ModelError(
            f"{name}: {len(plain)} bytes are too many to seal, at most {_MOST_BYTES - _TAG_BYTES}"
        )
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise ModelError(f"sealing weights needs `cryptography`: {_INSTALL}") from None
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return b"".join(
        (_HEADER, nonce, AESGCM(key._secret).encrypt(nonce, plain, _HEADER + name.encode()))
    )


def unseal(sealed: bytes, key: Key, name: str) -> bytes:
    """Returns what was sealed under `key` as the file `name`, in memory.

    Raises:
        ModelError: `cryptography` is not installed; the bytes are not sealed; or they do not open:
            another key, another name, or one bit of them changed. Which of these it was is not
            told apart. Nothing of the content is returned then.
    """
    if not is_sealed(sealed):
        raise ModelError(f"{name}: is not sealed; load it without a key, or pull it again")
    version = sealed[len(_MAGIC) : len(_HEADER)]
    if version and version[0] > _VERSION:
        raise ModelError(f"{name}: was sealed by a newer version of this program; update it")
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise ModelError(f"sealed weights need `cryptography`: {_INSTALL}") from None
    begin = len(_HEADER) + _NONCE_BYTES
    try:
        if not sealed.startswith(_HEADER) or len(sealed) < begin + _TAG_BYTES:
            raise InvalidTag
        opener = AESGCM(key._secret)
        nonce, content = sealed[len(_HEADER) : begin], memoryview(sealed)[begin:]
        return opener.decrypt(nonce, content, _HEADER + name.encode())
    except (InvalidTag, OverflowError):
        raise ModelError(
            f"{name}: does not open; it is sealed with another key or was changed; name the right "
            "key, or pull it again"
        ) from None


def _from_hex(text: bytes) -> bytes | None:
    try:
        secret = binascii.unhexlify(text.strip())  # bytes.fromhex would take blanks in between
    except binascii.Error:
        return None
    return secret if len(secret) == KEY_BYTES else None
