"""The parts of the documentation that come from the code.

`python -m tests.docs.tables` writes them into docs/; the tests check that they are up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tests.docs.data_tables import public_sets_table
from tests.docs.tabletop_tables import objects_table, textures_table
from unifiedmllm_ros.locations import share
from unifiedmllm_ros.representation import TASKS, ProblemKind, TaskSpec

Parts = dict[str, dict[str, Callable[[], str]]]

ROOT = Path(__file__).resolve().parents[2]

KEPT = {
    ProblemKind.UNCLOSED_TAG: 'a tag is never closed: an unclosed call is not a call, its argument '
    'becomes text and its regions plain detections; a phrase or box that is complete is kept',
    ProblemKind.UNEXPECTED_TAG: 'a closing tag closes nothing: it is dropped',
    ProblemKind.UNKNOWN_TASK: 'a tag is no registered task: it is dropped, what it holds is kept',
    ProblemKind.MALFORMED_BOX: 'a box is not four numbers in brackets: it is dropped',
    ProblemKind.OUT_OF_RANGE: 'a coordinate is outside [0, 1]: the box is dropped',
    ProblemKind.DEGENERATE_BOX: 'a box has no width or no height: it is dropped',
    ProblemKind.ORPHAN_BOX: 'a box has no phrase before it: its region has an empty phrase',
    ProblemKind.MISSING_BOX: 'a phrase has no box after it: it becomes text',
    ProblemKind.MISPLACED_TEXT: 'text stands after a region of a call: it joins the argument',
    ProblemKind.MISSING_ARGUMENT: 'a call lacks the argument it needs: it is kept, but the '
    'router refuses it',
    ProblemKind.MISSING_REGION: 'a call has too few regions: it is kept, but the router refuses it',
    ProblemKind.UNEXPECTED_REGION: 'a call has too many regions: it is kept, but the router '
    'refuses it',
}


def tasks_table() -> str:
    """The registered tasks."""
    rows = (
        (
            f'`{spec.name}`',
            spec.argument.value,
            _regions(spec),
            _yes(spec.image),
            spec.expert,
            spec.description,
        )
        for spec in TASKS.values()
    )
    return table(('task', 'argument', 'regions', 'image', 'kind of expert', 'what it does'), rows)


def problems_table() -> str:
    """The kinds of problems and what is kept."""
    rows = ((f'`{kind.value}`', KEPT[kind]) for kind in ProblemKind)
    return table(('kind', 'what is wrong, and what becomes of it'), rows)


def experts_file() -> str:
    """The configuration of the experts."""
    return f'```yaml\n{share("config/experts.yaml").read_text(encoding="utf-8").strip()}\n```'


PARTS: Parts = {
    'docs/representation.md': {'tasks': tasks_table, 'problems': problems_table},
    'docs/experts.md': {'experts': experts_file},
    'docs/data.md': {'public-sets': public_sets_table},
    'docs/tabletop.md': {'textures': textures_table, 'objects': objects_table},
}


def filled(page: str, parts: Parts) -> str:
    """The text of a page with its generated parts written anew."""
    text = (ROOT / page).read_text(encoding='utf-8')
    for name, render in parts[page].items():
        begin, end = f'<!-- begin: {name} -->', f'<!-- end: {name} -->'
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        assert found, f'{page} has no beginning of {name}'
        assert closed, f'{page} has no end of {name}'
        text = f'{before}{begin}\n{render()}\n{end}{after}'
    return text


def _regions(spec: TaskSpec) -> str:
    fewest, most = spec.regions
    if most is None:
        return f'{fewest} or more'
    return 'none' if most == 0 else f'{fewest} to {most}'


def _yes(value: bool) -> str:
    return 'yes' if value else 'no'


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ['---'] * len(lines[0]))
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def write(parts: Parts) -> None:
    """Write the generated parts of the pages anew."""
    for page in parts:
        (ROOT / page).write_text(filled(page, parts), encoding='utf-8')


if __name__ == '__main__':
    write(PARTS)
