"""docs/adapters.md and docs/tethered.md: their tables are the code's and the results'."""

from __future__ import annotations

import pytest

from tests.docs.figures import result
from tests.docs.remote_tables import PARTS
from tests.docs.tables import ROOT, filled
from unifiedmllm_ros.model.adapters.base import MAX_BOXES, FlawKind
from unifiedmllm_ros.model.adapters.registry import ADAPTERS, DETECTORS


@pytest.mark.parametrize('page', PARTS)
def test_generated_parts_are_up_to_date(page):
    assert (ROOT / page).read_text(encoding='utf-8') == filled(page, PARTS), (
        'write it anew with: python -m tests.docs.remote_tables'
    )


def test_the_page_names_every_adapter_and_flaw():
    text = (ROOT / 'docs/adapters.md').read_text(encoding='utf-8')
    names = [*ADAPTERS, *DETECTORS, *(kind.value for kind in FlawKind)]
    assert [name for name in names if f'`{name}`' not in text] == []
    assert f'the first {MAX_BOXES}' in text


def test_measured_medians_meet_the_marks():
    """5 ms for an adapter and for the remote model, no camera twice as slow as the median one."""
    measured = result('remote')
    assert max(times['p50'] for times in measured['adapter_ms'].values()) <= 5
    assert measured['call_ms']['overhead_p50'] <= 5
    assert measured['cameras_ms']['p99'] <= 2 * measured['cameras_ms']['p50']
