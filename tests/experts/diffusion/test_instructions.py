"""Instructions for regions: what should be seen afterwards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unifiedmllm_ros.experts.diffusion.instructions import Instruction, understood


@pytest.mark.parametrize(
    ('instruction', 'phrase', 'operation', 'wanted'),
    [
        ('remove the can', 'soup can', 'remove', ''),
        ('Please take the can away.', 'can', 'remove', ''),
        ('take away the can', 'can', 'remove', ''),
        ('make it disappear', 'can', 'remove', ''),
        ('get rid of the can!', 'can', 'remove', ''),
        ('replace the can with a red apple', 'can', 'replace', 'a red apple'),
        ('swap the mug for a glass of water', 'mug', 'replace', 'a glass of water'),
        ('turn the mug into a vase', 'mug', 'replace', 'a vase'),
        ('paint the mug blue', 'mug', 'recolour', 'blue mug'),
        ('make it dark green', 'red mug', 'recolour', 'dark green red mug'),
        ('add a banana left of the plate', 'banana', 'add', 'banana'),
        ('add a banana', '', 'add', 'a banana'),
        ('a wooden spoon', 'spoon', 'change', 'a wooden spoon'),
        ('make the mug shiny', 'mug', 'change', 'make the mug shiny'),
        ('', 'mug', 'change', ''),
    ],
)
def test_what_is_asked_for(instruction: str, phrase: str, operation: str, wanted: str) -> None:
    assert understood(instruction, phrase) == Instruction(operation, wanted)  # type: ignore[arg-type]


@given(st.text(), st.text())
def test_any_text_is_understood_somehow(instruction: str, phrase: str) -> None:
    found = understood(instruction, phrase)
    assert (found.operation == 'remove') <= (found.wanted == '')
