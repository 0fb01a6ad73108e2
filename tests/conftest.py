"""What many tests start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble_bench.cube import Cube
from ensemble_bench.testing.toy import poorer, toy

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def support() -> Cube:
    """A labelled toy cube: 4 backbones, 6 classes, 3 examples of each."""
    return toy(18, 1)


@pytest.fixture
def query() -> Cube:
    """A labelled toy cube of other samples: 4 backbones, 6 classes, 240 samples."""
    return toy(240, 2)


@pytest.fixture(params=["logits", "probabilities", "decisions"])
def poor(request: pytest.FixtureRequest, query: Cube) -> Cube:
    """The query with less to say: without features, with probabilities only, with decisions only."""
    return poorer(query, request.param)


@pytest.fixture(scope="session")
def real_predictions() -> Path:
    """Folder of real models' predictions, kept outside the repository."""
    folder = SHARED / "real_predictions"
    if not folder.is_dir():
        pytest.skip(f"the real predictions are not here: {folder}")
    return folder
