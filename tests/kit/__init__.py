"""What the tests are made with: media, cameras, servers, stages and the doubles of processes."""

from __future__ import annotations
