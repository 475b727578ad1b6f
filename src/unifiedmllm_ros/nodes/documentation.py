"""Writes the tables of the documentation that come from the code.

    python -m unifiedmllm_ros.nodes.documentation README.md docs/perception_node.md

replaces what stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`, where NAME is one of
`TABLES`; other marks are left to others.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from unifiedmllm_ros.bridge.parameters import parameter_table
from unifiedmllm_ros.nodes import interface
from unifiedmllm_ros.nodes.configuration import (
    ExpertParameters,
    PerceptionParameters,
    TabletopCameraParameters,
)

TABLES: dict[str, Callable[[], str]] = {
    'topics': lambda: interface.topic_table(interface.PERCEPTION_TOPICS),
    'actions': lambda: interface.action_table(interface.PERCEPTION_ACTIONS),
    'parameters': lambda: parameter_table(PerceptionParameters),
    'expert-topics': lambda: interface.topic_table(interface.EXPERT_TOPICS),
    'expert-actions': lambda: interface.action_table(interface.EXPERT_ACTIONS),
    'expert-services': lambda: interface.action_table(interface.EXPERT_SERVICES, 'service'),
    'expert-parameters': lambda: parameter_table(ExpertParameters),
    'camera-topics': lambda: interface.topic_table(interface.TABLETOP_CAMERA_TOPICS),
    'camera-parameters': lambda: parameter_table(TabletopCameraParameters),
}
"""Tables by the NAME of their marks."""

_BLOCK = re.compile(
    r'(?P<begin><!-- begin: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end: (?P=name) -->)', re.DOTALL
)


def with_tables(text: str) -> str:
    """Return a Markdown text with all marked tables written anew."""
    return _BLOCK.sub(_filled, text)


def marked_tables(text: str) -> set[str]:
    """Return the names of the tables that a text has marks for."""
    return {match['name'] for match in _BLOCK.finditer(text)} & TABLES.keys()


def _filled(match: re.Match[str]) -> str:
    name = match['name']
    if name not in TABLES:
        return match[0]
    return match['begin'] + TABLES[name]() + match['end']


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of the files that are named; return the exit status."""
    for name in sys.argv[1:] if arguments is None else arguments:
        path = Path(name)
        text = path.read_text(encoding='utf-8')
        path.write_text(with_tables(text), encoding='utf-8')
        print(f'{name}: {", ".join(sorted(marked_tables(text))) or "no tables"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
