"""docs/data.md: its JSON examples are valid, its table names every public set and a licence."""

from __future__ import annotations

import json
import re

from tests.docs.tables import ROOT
from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.registry import PUBLIC_SETS
from unifiedmllm_ros.evaluation.nsr1k_benchmark import Prediction
from unifiedmllm_ros.representation import TaskCall, parse

PAGE = (ROOT / 'docs/data.md').read_text(encoding='utf-8')
EXAMPLE = re.compile(r'^```json\n(.*?)^```', re.DOTALL | re.MULTILINE)


def test_examples_are_valid() -> None:
    conversation, prediction = EXAMPLE.findall(PAGE)
    read = Conversation.model_validate_json(conversation)
    assert len(list(read.exchanges())) == 2
    (call,) = parse(read.turns[1].text)[0].calls
    assert isinstance(call, TaskCall)
    assert call.task == 'seg'
    assert Prediction.model_validate_json(prediction).id == 7


def test_fields_of_the_example_are_those_of_the_table() -> None:
    named = set(re.findall(r'`(\w+)`', '\n'.join(re.findall(r'^\| (`.*?) \|', PAGE, re.MULTILINE))))
    assert set(Conversation.model_fields) <= named
    assert set(json.loads(EXAMPLE.findall(PAGE)[0])) <= set(Conversation.model_fields)


def test_every_set_says_what_it_is() -> None:
    for name, each in PUBLIC_SETS.items():
        assert name == each.name
        assert all((each.title, each.gives, each.licence, each.source, each.layout, each.splits))
        assert f'| `{name}` |' in PAGE
