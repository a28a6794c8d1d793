"""Weights: the manifest of every shipped file and the only door through which one is loaded."""

from __future__ import annotations

from .store import (
    ModelEntry,
    ModelOrigin,
    VerifyResult,
    load_verified,
    model_entry,
    read_manifest,
    verify_all,
)

__all__ = [
    "ModelEntry",
    "ModelOrigin",
    "VerifyResult",
    "load_verified",
    "model_entry",
    "read_manifest",
    "verify_all",
]
