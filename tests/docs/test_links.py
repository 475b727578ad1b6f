"""Links between the documents lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.tables import ROOT

PAGES = [
    ROOT / 'README.md',
    *sorted((ROOT / 'docs').glob('*.md')),
    *sorted((ROOT / 'models').glob('*/README.md')),
]
LINK = re.compile(r'\]\((?!https?:|#)([^)#\s]+)')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_exist(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding='utf-8')):
        assert (page.parent / target).exists(), f'{page.name} links to {target}'
