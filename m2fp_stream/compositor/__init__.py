"""Covers frames: the only place where safe frames come from."""

from __future__ import annotations

from .compose import ComposeOptions, Compositor, compose

__all__ = ["ComposeOptions", "Compositor", "compose"]
