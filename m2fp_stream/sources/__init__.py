"""Where frames come from: video files and pictures, upright and with exact times."""

from __future__ import annotations
