"""Layouts of NSR-1K's prompts by a model of ours, from text alone, greedily."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unifiedmllm_ros.data.converters.wording import LAYOUT
from unifiedmllm_ros.evaluation.nsr1k import Layout
from unifiedmllm_ros.evaluation.nsr1k_benchmark import Prompts, Samples
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.representation import TASKS, parse
from unifiedmllm_ros.runtime.context import Context
from unifiedmllm_ros.runtime.decoding import Asked, Decoder
from unifiedmllm_ros.runtime.engine import Engine
from unifiedmllm_ros.runtime.grammar import Grammar

MOST_TOKENS = 400
DECIMALS = 3


class LayoutWriter:
    """Asks a model for layouts; nothing but a layout can be said."""

    def __init__(self, engine: Engine, processor: UnifiedMLLMProcessor) -> None:
        self._engine, self._processor = engine, processor
        self._decoder = Decoder(Grammar(processor, {'layout': TASKS['layout']}), MOST_TOKENS)
        self._opening = Context(engine)
        self._opening.append(processor.encode_prefix(images=0))

    @classmethod
    def load(cls, folder: Path, threads: int = 2) -> LayoutWriter:
        """Load a model: its graphs where it was exported, else in torch."""
        if (folder / 'onnx').is_dir():
            from unifiedmllm_ros.runtime.backends import open_engine

            engine: Any = open_engine(folder, threads=threads)
            return cls(engine, UnifiedMLLMProcessor.from_pretrained(folder))
        import torch

        from unifiedmllm_ros.runtime.torch_engine import TorchEngine
        from unifiedmllm_ros.training.results import load_to_run

        torch.set_num_threads(threads)
        begun = load_to_run(folder)
        return cls(TorchEngine(begun.model, folder.name), begun.processor)

    def lay_out(self, prompt: str) -> Layout:
        """[(class, (x, y, width, height))] for a sentence, in fractions of the image."""
        ids = self._processor.encode_question(LAYOUT[0].format(prompt), images=0)
        asked = Asked(self._opening.fork(), ids)
        answer = [token.id for token in self._decoder.stream(asked)]
        calls = parse(self._processor.decode(answer))[0].calls
        return [
            (region.phrase, _xywh(box.corners))
            for call in calls
            for region in call.regions
            for box in region.boxes
        ]


def _xywh(corners: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = corners
    return x1, y1, round(x2 - x1, DECIMALS), round(y2 - y1, DECIMALS)


def lay_out_all(
    folder: Path, prompts: Prompts, threads: int = 2, out: Path | None = None
) -> Samples:
    """One layout of every prompt; `out` gets them as a file of predictions."""
    writer, samples = LayoutWriter.load(folder, threads), {}
    rows = [('spatial', row) for row in prompts.spatial]
    rows += [('numerical', row) for row in prompts.numerical]  # type: ignore[misc]
    for part, row in tqdm(rows, desc='layouts', unit='prompt', mininterval=2):
        samples[part, row.id] = [writer.lay_out(row.prompt)]
    if out is not None:
        lines = (
            json.dumps({'part': part, 'id': id, 'samples': layouts})
            for (part, id), layouts in samples.items()
        )
        out.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return samples  # type: ignore[return-value]
