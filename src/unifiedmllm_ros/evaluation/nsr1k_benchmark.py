"""The NSR-1K test: prompts and predictions from files, means over prompts and samples.

Predictions are JSON Lines, one prompt each, with as many samples for each prompt:

    {"part": "spatial", "id": 7, "samples": [[["dog", [0.1, 0.2, 0.3, 0.4]], ["cat", [...]]]]}

A prompt without a prediction, and one whose objects are missing, counts as wrong.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.evaluation.nsr1k import (
    Layout,
    NumericalScore,
    score_comparison,
    score_counts,
    score_spatial,
)

Part = Literal['spatial', 'numerical']
Number = Annotated[float, Field(allow_inf_nan=False)]
Object = tuple[str, tuple[Number, Number, Number, Number]]
Parsed = TypeVar('Parsed')
Report = dict[str, dict[str, float]]
MEASURES = ('accuracy', 'precision', 'recall', 'iou', 'mae')
_FILES: dict[Part, tuple[str, ...]] = {
    'spatial': ('spatial',),
    'numerical': ('numerical', 'counting'),
}


class Nsr1kError(UnifiedMLLMError):
    """A file of prompts or predictions that does not hold up; names file, row and field."""

    code = 'invalid_predictions'


class SpatialPrompt(BaseModel):
    """A prompt that states the relation of obj1 to obj2."""

    model_config = ConfigDict(frozen=True)

    id: int
    prompt: str
    obj1: Object
    obj2: Object
    relation: Literal['left', 'right', 'top', 'bottom', 'next to']

    @property
    def truth(self) -> Layout:
        """The ground-truth layout."""
        return (self.obj1, self.obj2)


class NumericalPrompt(BaseModel):
    """A prompt that states how many there are of one class or several."""

    model_config = ConfigDict(frozen=True)

    id: int
    prompt: str
    num_object: tuple[tuple[str, int], ...]
    object_list: tuple[Object, ...]
    sub_type: str = Field(alias='sub-type')

    @property
    def truth(self) -> Layout:
        """The ground-truth layout."""
        return self.object_list

    @model_validator(mode='after')
    def _comparison_of_two(self) -> NumericalPrompt:
        if self.sub_type == 'comparison' and len(self.num_object) != 2:
            raise ValueError('a comparison is of two classes')
        return self


class Prediction(BaseModel):
    """The layouts that a model gave for a prompt."""

    model_config = ConfigDict(frozen=True, extra='forbid')

    part: Part
    id: int
    samples: tuple[tuple[Object, ...], ...] = Field(min_length=1)


Samples = dict[tuple[Part, int], Sequence[Layout]]


@dataclass(frozen=True)
class Prompts:
    """The prompts of a split."""

    spatial: tuple[SpatialPrompt, ...] = ()
    numerical: tuple[NumericalPrompt, ...] = ()

    def truth(self) -> Samples:
        """The ground truth as one sample for each prompt: what a perfect model would say."""
        samples: Samples = {('spatial', row.id): [row.truth] for row in self.spatial}
        return samples | {('numerical', row.id): [row.truth] for row in self.numerical}


def read_prompts(folder: Path, split: str = 'val') -> Prompts:
    """The prompts in spatial.SPLIT.json and numerical.SPLIT.json (or counting.SPLIT.json).

    They lie in the folder or in one of the part's name; one of the two may be missing. Raises
    Nsr1kError where there is none, or one does not hold up.
    """
    files = {part: _file(folder, part, split) for part in _FILES}
    if not any(files.values()):
        raise Nsr1kError(f'{folder}: has neither spatial.{split}.json nor numerical.{split}.json')
    return Prompts(
        _rows(TypeAdapter(tuple[SpatialPrompt, ...]), files['spatial']),
        _rows(TypeAdapter(tuple[NumericalPrompt, ...]), files['numerical']),
    )


def read_spatial(path: Path) -> tuple[SpatialPrompt, ...]:
    """The rows of one file of spatial prompts. Raises Nsr1kError where it does not hold up."""
    if not path.is_file():
        raise Nsr1kError(f'{path}: there is no such file')
    return _rows(TypeAdapter(tuple[SpatialPrompt, ...]), path)


def _file(folder: Path, part: Part, split: str) -> Path | None:
    paths = [folder / place / f'{n}.{split}.json' for n in _FILES[part] for place in ('', n)]
    return next((path for path in paths if path.is_file()), None)


def _rows(adapter: TypeAdapter[tuple[Parsed, ...]], path: Path | None) -> tuple[Parsed, ...]:
    return _parsed(adapter, path.read_bytes(), str(path)) if path else ()


def read_predictions(path: Path, prompts: Prompts) -> Samples:
    """The predictions of a file. Raises Nsr1kError naming line and field.

    Every prompt must be one of `prompts`, be there once, and have as many samples as the others.
    """
    samples: Samples = {}
    for place, said in _predictions(path):
        key = (said.part, said.id)
        if key in samples:
            raise Nsr1kError(f'{place}: {said.part} prompt {said.id} has been predicted already')
        if samples and len(said.samples) != len(next(iter(samples.values()))):
            raise Nsr1kError(
                f'{place}: has {len(said.samples)} samples, the first line '
                f'{len(next(iter(samples.values())))}: give as many for each prompt'
            )
        samples[key] = said.samples
    unknown = samples.keys() - prompts.truth().keys()
    if unknown or not samples:
        named = ', '.join(f'{part} {id}' for part, id in sorted(unknown)[:5]) or 'nothing'
        raise Nsr1kError(f'{path}: predicts {named}, which is no prompt of the split')
    return samples


def _predictions(path: Path) -> Iterator[tuple[str, Prediction]]:
    adapter = TypeAdapter(Prediction)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise Nsr1kError(f'{path}: cannot be read: {error.strerror}') from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            place = f'{path}, line {number}'
            yield place, _parsed(adapter, line, place)


def _parsed(adapter: TypeAdapter[Parsed], data: bytes, place: str) -> Parsed:
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = '.'.join(str(part) for part in first['loc']) or 'the value'
        raise Nsr1kError(f'{place}, field {field}: {first["msg"]}') from error


def evaluate(prompts: Prompts, samples: Samples) -> Report:
    """Means over prompts and samples for each part that has prompts."""
    report: Report = {}
    if prompts.spatial:
        report['spatial'] = _spatial(prompts.spatial, samples)
    if prompts.numerical:
        report['numerical'] = _numerical(prompts.numerical, samples)
    return report


def _spatial(prompts: Sequence[SpatialPrompt], samples: Samples) -> dict[str, float]:
    verdicts = [
        score_spatial(layout, row.obj1[0], row.obj2[0], row.relation)
        for row in prompts
        for layout in samples.get(('spatial', row.id), _unanswered(samples))
    ]
    unanswered = sum(('spatial', row.id) not in samples for row in prompts)
    return {
        'prompts': len(prompts),
        'unanswered': unanswered,
        'accuracy': fmean(verdict is True for verdict in verdicts),
        'missing': fmean(verdict is None for verdict in verdicts),
    }


def _numerical(prompts: Sequence[NumericalPrompt], samples: Samples) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for row in prompts:
        for layout in samples.get(('numerical', row.id), _unanswered(samples)):
            score = _score(layout, row)
            for measure in MEASURES:
                if (value := getattr(score, measure)) is not None:
                    values[measure].append(value)
    unanswered = sum(('numerical', row.id) not in samples for row in prompts)
    means = {measure: fmean(values[measure]) for measure in MEASURES if values[measure]}
    return {'prompts': len(prompts), 'unanswered': unanswered, **means}


def _score(layout: Layout, row: NumericalPrompt) -> NumericalScore:
    rule = score_comparison if row.sub_type == 'comparison' else score_counts
    return rule(layout, row.num_object)


def _unanswered(samples: Samples) -> Sequence[Layout]:
    """As many empty layouts as the others have samples, so that every prompt weighs the same."""
    return [()] * len(next(iter(samples.values()), [()]))


def table(report: Report) -> str:
    """The report for people."""
    return '\n'.join(
        f'{part}: ' + ', '.join(f'{name} {value:.4g}' for name, value in values.items())
        for part, values in report.items()
    )


def write(report: Report, path: Path) -> None:
    """Write the report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
