"""Every figure of README.md and docs/benchmarks.md is that of a committed result."""

from __future__ import annotations

import pytest

from tests.docs.figures import FIGURES
from tests.docs.tables import ROOT, filled


@pytest.mark.parametrize('page', FIGURES)
def test_figures_are_those_of_the_results(page: str) -> None:
    assert (ROOT / page).read_text(encoding='utf-8') == filled(page, FIGURES), (
        'write them anew with: python -m tests.docs.figures'
    )
