"""The samples of a run in their order: a weighted mixture, like lengths together.

The order depends on the settings alone, not on how many processes train: sample i is the same in
every run, so a resumed run goes on with what would have come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from unifiedmllm_ros.data.mixing import mix
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.training.encoding import Example, Media, encode
from unifiedmllm_ros.training.media import read_media
from unifiedmllm_ros.training.regions_cache import RegionsCache
from unifiedmllm_ros.training.settings import BatchSettings, SourceSettings
from unifiedmllm_ros.training.sources import Source

WINDOW = 32  # steps whose samples are sorted by length
Place = tuple[int, int]


class Samples(Dataset):
    """Sample i of a run. `order` holds (source, conversation) of each."""

    def __init__(
        self,
        processor: UnifiedMLLMProcessor,
        sources: Sequence[Source],
        experts: Sequence[str],
        order: Sequence[Place],
        length: int,
        regions: RegionsCache | None = None,
    ) -> None:
        self.processor, self.sources, self.experts = processor, sources, experts
        self.order, self.length, self.regions = order, length, regions

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Example:
        number, row = self.order[index]
        conversation, contents, place = self.sources[number].read(row)
        if self.regions is not None and 'image' in contents:
            media = Media(regions=self.regions.of(contents['image']))
        else:
            media = read_media(self.processor, contents, place)
        return encode(self.processor, conversation, media, self.length, self.experts[number])


def mixed_order(
    sources: Sequence[Source],
    settings: Sequence[SourceSettings],
    batch: BatchSettings,
    steps: int,
    seed: int,
) -> list[Place]:
    """(source, conversation) of every sample of `steps` steps; more steps begin the same."""
    window = batch.size * WINDOW
    count = -(-steps * batch.size // window) * window
    streams = {str(n): _epochs(len(source), seed, n) for n, source in enumerate(sources)}
    weights = {str(n): each.weight for n, each in enumerate(settings)}
    drawn = [(int(n), row) for n, row in islice(mix(streams, weights, seed), count)]
    if batch.group:
        rng = np.random.default_rng(seed)
        drawn = [
            place
            for start in range(0, count, window)
            for place in _grouped(drawn[start : start + window], sources, batch.size, rng)
        ]
    return drawn[: steps * batch.size]


def _epochs(count: int, seed: int, number: int) -> Callable[[], Iterator[int]]:
    """A function that starts the source's next epoch, in an order of its own."""
    rng = np.random.default_rng((seed, number))
    return lambda: iter(rng.permutation(count).tolist())


def _grouped(
    places: list[Place], sources: Sequence[Source], size: int, rng: np.random.Generator
) -> list[Place]:
    """Batches of like lengths in a random order."""
    by_length = sorted(places, key=lambda p: sources[p[0]].entries[p[1]].tokens)
    batches = [by_length[start : start + size] for start in range(0, len(by_length), size)]
    return [place for index in rng.permutation(len(batches)) for place in batches[index]]


class Collator:
    """Samples as one batch, filled up at the right; media one after another."""

    def __init__(self, processor: UnifiedMLLMProcessor) -> None:
        self.pad = processor.pad_id

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """input_ids, labels, attention_mask (B, T); experts (B,); media as the model takes them;
        ids of the conversations; how many were cut."""
        longest = max(len(example.ids) for example in examples)
        ids = np.full((len(examples), longest), self.pad, np.int64)
        labels = np.full_like(ids, -100)
        mask = np.zeros_like(ids)
        for row, example in enumerate(examples):
            ids[row, : len(example.ids)] = example.ids
            labels[row, : len(example.ids)] = example.labels
            mask[row, : len(example.ids)] = 1
        return {
            'input_ids': torch.from_numpy(ids),
            'labels': torch.from_numpy(labels),
            'attention_mask': torch.from_numpy(mask),
            'experts': torch.tensor([example.experts for example in examples]),
            'cut': torch.tensor(sum(example.cut for example in examples)),
            'names': [example.id for example in examples],
            **_joined([example.media for example in examples]),
        }


def _joined(media: Sequence[Media]) -> dict[str, torch.Tensor]:
    named = {'pixel_values': 'image', 'pixel_values_videos': 'video', 'audio_values': 'audio'}
    joined = {}
    for name, field in named.items():
        parts = [value for each in media if (value := getattr(each, field)) is not None]
        if parts:
            joined[name] = torch.from_numpy(np.concatenate(parts))
    found = [each.regions for each in media if each.regions]
    for name in found[0] if found else ():
        joined[f'regions_{name}'] = torch.from_numpy(np.stack([each[name] for each in found]))
    return joined
