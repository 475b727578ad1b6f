"""Models that others publish and an adapter speaks: sizes and licences, for choosing one.

Parameters are counted from the published configurations (transformers' classes on the meta
device), not measured. Licences are those of the publishers' model pages.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1024**3
CONTEXT = 4096
"""Tokens of a conversation that the memory is computed for: one picture, some turns."""
WORKSPACE = 1.5
"""GiB for the GPU's context and the activations of one picture; an assumption."""
FOUR_BIT = 4.5 / 8
"""Bytes of a weight in 4 bits: one scale of 32 bits for 64 weights comes on top."""


@dataclass(frozen=True)
class PublishedModel:
    """One checkpoint.

    repository: its name on the Hugging Face hub. family: its adapter.
    parameters: how many. embeddings: those of them that quantisation leaves alone.
    cache: bytes of keys and values for a token, in 16 bits.
    commercial: whether the licence allows commercial use.
    """

    repository: str
    family: str
    parameters: float
    embeddings: float
    cache: int
    licence: str
    commercial: bool = True
    chat: bool = True

    @property
    def name(self) -> str:
        """The repository without its owner."""
        return self.repository.rpartition('/')[2]

    def weights(self, bits: int) -> float:
        """Bytes of the weights in 32, 16, 8 or 4 bits."""
        if bits in (16, 32):
            return self.parameters * bits / 8
        size = FOUR_BIT if bits == 4 else 1.0
        return (self.parameters - self.embeddings) * size + self.embeddings * 2

    def need(self, bits: int) -> float:
        """GiB that running it takes: weights, keys and values of CONTEXT tokens, WORKSPACE."""
        return (self.weights(bits) + self.cache * CONTEXT) / GIB + WORKSPACE

    def rate(self, bits: int, bandwidth: float) -> float:
        """Most tokens per second at a memory bandwidth in GB/s: each reads all weights once."""
        return bandwidth * 1e9 / self.weights(bits)


CATALOGUE = (
    PublishedModel('Qwen/Qwen3-VL-32B-Instruct', 'qwen3-vl', 33.4e9, 1.56e9, 262_144, 'Apache-2.0'),
    PublishedModel('Qwen/Qwen3-VL-8B-Instruct', 'qwen3-vl', 8.77e9, 1.24e9, 147_456, 'Apache-2.0'),
    PublishedModel('Qwen/Qwen3-VL-4B-Instruct', 'qwen3-vl', 4.44e9, 0.39e9, 147_456, 'Apache-2.0'),
    PublishedModel('Qwen/Qwen3-VL-2B-Instruct', 'qwen3-vl', 2.13e9, 0.31e9, 114_688, 'Apache-2.0'),
    PublishedModel(
        'Qwen/Qwen2.5-VL-7B-Instruct', 'qwen2.5-vl', 8.29e9, 1.09e9, 57_344, 'Apache-2.0'
    ),
    PublishedModel(
        'Qwen/Qwen2.5-VL-3B-Instruct',
        'qwen2.5-vl',
        3.75e9,
        0.31e9,
        36_864,
        'Qwen research licence (not for commercial use)',
        commercial=False,
    ),
    PublishedModel(
        'google/paligemma2-3b-mix-448',
        'paligemma',
        3.02e9,
        0.59e9,
        106_496,
        'Gemma terms of use',
        chat=False,
    ),
    PublishedModel(
        'microsoft/kosmos-2-patch14-224', 'kosmos2', 1.66e9, 0.13e9, 196_608, 'MIT', chat=False
    ),
    PublishedModel(
        'florence-community/Florence-2-large',
        'florence2',
        0.78e9,
        0.05e9,
        98_304,
        'MIT',
        chat=False,
    ),
    PublishedModel(
        'florence-community/Florence-2-base', 'florence2', 0.23e9, 0.04e9, 36_864, 'MIT', chat=False
    ),
    PublishedModel(
        'IDEA-Research/grounding-dino-tiny',
        'grounding-dino',
        0.17e9,
        0.02e9,
        0,
        'Apache-2.0',
        chat=False,
    ),
    PublishedModel(
        'openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det',
        'grounding-dino',
        0.17e9,
        0.02e9,
        0,
        'Apache-2.0',
        chat=False,
    ),
    PublishedModel(
        'google/owlv2-base-patch16-ensemble',
        'owlv2',
        0.15e9,
        0.03e9,
        0,
        'Apache-2.0',
        chat=False,
    ),
)
"""The larger first; those that read instructions (`chat`) before those that know tasks."""
