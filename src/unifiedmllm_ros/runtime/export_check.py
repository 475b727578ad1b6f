"""Exported graphs against the torch model they come from: numbers, and whole answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from unifiedmllm_ros.runtime.engine import Array, Engine
from unifiedmllm_ros.runtime.manifest import MANIFEST_FILE, Manifest

REQUIRED: Final = {'fp32': 1.0, 'fp16': 0.99, 'bf16': 0.99, 'int8': 0.98, 'int4': 0.98}
"""Share of greedy answers that must equal torch's, by precision."""
NEAR: Final = 0.002
"""Of coordinates: about a pixel of a picture 640 wide."""
_COORDINATE: Final = re.compile(r'\b[01]\.\d{3}\b')
_PROMPT = 12
_CONTINUED = 4


@dataclass(frozen=True)
class Sample:
    """An image, uint8 [height, width, 3] RGB, and a question about it."""

    image: Any
    question: str


@dataclass(frozen=True)
class Report:
    """What a comparison gave.

    differences: largest absolute difference of each output on random inputs. scale: the largest
    absolute value of torch's outputs, to judge them by. answers: how many samples were answered,
    0 where there were none. equal: share of answers that are equal, character by character.
    required: the share that the precision must reach. near: share of answers that are equal but
    for coordinates that differ by NEAR at most; for information, nothing is judged by it.
    """

    backend: str
    precision: str
    differences: dict[str, float]
    scale: dict[str, float]
    answers: int = 0
    equal: float | None = None
    required: float | None = None
    near: float | None = None

    @property
    def passed(self) -> bool:
        """Whether enough answers are equal and all numbers are finite."""
        enough = self.equal is None or self.required is None or self.equal >= self.required
        return enough and all(np.isfinite(value) for value in self.differences.values())

    def as_json(self) -> dict[str, Any]:
        """Return the report for a manifest."""
        return {**asdict(self), 'passed': self.passed}


def compare_numbers(ours: Engine, reference: Engine, manifest: Manifest, seed: int = 0) -> Report:
    """Run both engines on the same random images, frames, sounds and tokens."""
    rng = np.random.default_rng(seed)
    pairs: dict[str, tuple[Array, Array]] = {}

    def both(name: str, run: Callable[[Engine], Array]) -> None:
        pairs[name] = run(ours), run(reference)

    size = manifest.image_size
    pixels = rng.random((1, 3, *size), np.float32)
    both('vision', lambda engine: engine.encode_image(pixels))
    if manifest.video:
        frames = rng.random((manifest.video.frames, 3, *size), np.float32)
        both('video', lambda engine: engine.encode_video(frames))
    if manifest.audio:
        wave = (0.1 * rng.standard_normal(manifest.audio.samples)).astype(np.float32)
        both('audio', lambda engine: engine.encode_audio(wave))
    ids = rng.integers(0, manifest.vocab, _PROMPT + _CONTINUED).tolist()
    # The same visual tokens for both: the encoders were compared above.
    features = pairs['vision'][1]
    both('logits', lambda engine: _logits(engine, ids, features))
    return Report(
        backend=ours.info.backend,
        precision=manifest.arithmetic,
        differences={name: _largest(mine - theirs) for name, (mine, theirs) in pairs.items()},
        scale={name: _largest(theirs) for name, (_, theirs) in pairs.items()},
    )


def _logits(engine: Engine, ids: list[int], features: Array) -> Array:
    cache = engine.new_cache()
    rows = [engine.step(ids[:1], cache), engine.step(ids[1:_PROMPT], cache, features)]
    rows += [engine.step([token], cache) for token in ids[_PROMPT:]]
    return np.concatenate(rows)


def _largest(values: Array) -> float:
    return float(np.abs(values).max())


def answers(engine: Engine, folder: Path, samples: Iterable[Sample]) -> list[str]:
    """Return the whole greedy answers of the model in `folder`, run by `engine`."""
    from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
    from unifiedmllm_ros.model.protocol import Conversation
    from unifiedmllm_ros.runtime.unified import UnifiedModel

    model = UnifiedModel(engine, UnifiedMLLMProcessor.from_pretrained(folder))
    said, image, features = [], None, None
    for sample in samples:
        if features is None or sample.image is not image:
            image, features = sample.image, model.encode(sample.image)
        chunks = model.stream(features, Conversation(sample.question))
        said.append(''.join(chunk.text for chunk in chunks))
    return said


def with_answers(report: Report, ours: Sequence[str], reference: Sequence[str]) -> Report:
    """Add the comparison of answers to a report."""
    pairs = list(zip(ours, reference, strict=True))
    equal = [mine == theirs for mine, theirs in pairs]
    close = [near(mine, theirs) for mine, theirs in pairs]
    return Report(
        backend=report.backend,
        precision=report.precision,
        differences=report.differences,
        scale=report.scale,
        answers=len(equal),
        equal=sum(equal) / len(equal) if equal else None,
        required=required(report.precision),
        near=sum(close) / len(close) if close else None,
    )


def required(precision: str) -> float:
    """Return the share of equal answers for a precision as a report names it."""
    return min(share for name, share in REQUIRED.items() if name in precision)


def near(mine: str, theirs: str) -> bool:
    """Return whether two answers are equal but for coordinates that differ by NEAR at most."""
    if _COORDINATE.sub('#', mine) != _COORDINATE.sub('#', theirs):
        return False
    values = [np.array(_COORDINATE.findall(text), np.float64) for text in (mine, theirs)]
    return bool((np.abs(values[0] - values[1]) <= NEAR + 1e-9).all())


def write_report(folder: Path, report: Report) -> None:
    """Put a report into the manifest of exported graphs."""
    file = folder / MANIFEST_FILE
    fields = json.loads(file.read_text(encoding='utf-8'))
    fields['check'] = report.as_json()
    file.write_text(json.dumps(fields, indent=2) + '\n', encoding='utf-8')
