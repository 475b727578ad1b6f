"""docs/representation.md and docs/experts.md: their tables are the code's, their examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.tables import KEPT, PARTS, ROOT, filled
from unifiedmllm_ros.representation import ProblemKind

EXPERTS = """
experts:
  grabcut: {implementation: 'unifiedmllm_ros.experts.grabcut:GrabCut', kind: segmentation}
tasks: {seg: grabcut}
"""
EXAMPLE = re.compile(r'^```python\n(.*?)^```', re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize('page', PARTS)
def test_generated_parts_are_up_to_date(page: str) -> None:
    assert (ROOT / page).read_text(encoding='utf-8') == filled(page, PARTS), (
        'write it anew with: python -m tests.docs.tables'
    )


@pytest.mark.parametrize('page', PARTS)
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'my_experts.yaml').write_text(EXPERTS, encoding='utf-8')
    monkeypatch.chdir(tmp_path)
    examples = EXAMPLE.findall((ROOT / page).read_text(encoding='utf-8'))
    assert len(examples) >= 2
    for example in examples:
        exec(compile(example, page, 'exec'), {'__name__': page})


def test_every_kind_of_problem_is_explained() -> None:
    assert set(KEPT) == set(ProblemKind)
