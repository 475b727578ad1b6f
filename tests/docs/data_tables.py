"""The table of docs/data.md, from the registry of public sets."""

from __future__ import annotations

from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.registry import PUBLIC_SETS


def public_sets_table() -> str:
    """A row for each public set."""
    head = ('NAME', 'set', 'gives', 'splits', 'what lies in the folder', 'licence')
    rows = [head, ('---',) * len(head), *map(_row, PUBLIC_SETS.values())]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def _row(each: PublicSet) -> tuple[str, ...]:
    title = f'{each.title} ({each.source})'
    return (
        f'`{each.name}`',
        title,
        each.gives,
        ', '.join(each.splits),
        each.layout,
        each.licence,
    )
