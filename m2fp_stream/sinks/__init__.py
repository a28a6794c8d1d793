"""Where composed data goes: each sink takes one sealed type, its output is complete or absent."""

from __future__ import annotations
