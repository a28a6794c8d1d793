"""What several tests of the whole program use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.film import Bgr, load_portrait, write_film


@pytest.fixture(scope="session")
def portrait() -> Bgr:
    """Eileen Collins; NASA, public domain."""
    return load_portrait()


@pytest.fixture(scope="session")
def film(portrait: Bgr, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds at 15 frames a second; the picture sways."""
    path = tmp_path_factory.mktemp("film") / "portrait.mp4"
    write_film(path, portrait)
    return path
