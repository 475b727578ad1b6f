"""A tiny model of random weights, exported as real models are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unifiedmllm_ros.model.processing import ProcessorConfig, UnifiedMLLMProcessor
from unifiedmllm_ros.model.tokenizer import build_tokenizer
from unifiedmllm_ros.runtime.manifest import FORMAT, GraphFile, Manifest
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine
from unifiedmllm_ros.runtime.unified import UnifiedModel

IMAGE_SIZE = (24, 32)
VISUAL_TOKENS = 6
HIDDEN, LAYERS, HEADS, KV_HEADS = 32, 2, 4, 2
CORPUS = [
    'find the red mug on the table, please',
    'The red mug is left of the plate. There are 3 bowls & no cups.',
]


@dataclass(frozen=True)
class TinyModel:
    """Where the tiny model is, and the same weights in torch."""

    folder: Path
    processor: UnifiedMLLMProcessor
    language_model: Any

    def reference(self, features: np.ndarray | None, *sequences: list[int]) -> np.ndarray:
        """Logits [T, V] of torch in one pass: the first ids, the features, the other ids."""
        import torch

        embed = self.language_model.get_input_embeddings()
        rows = [embed(torch.tensor(sequence, dtype=torch.long)) for sequence in sequences]
        if features is not None:
            rows.insert(1, torch.tensor(features))
        with torch.no_grad():
            logits = self.language_model(inputs_embeds=torch.cat(rows)[None]).logits
        return np.asarray(logits[0])


@pytest.fixture(scope='session')
def processor() -> UnifiedMLLMProcessor:
    return UnifiedMLLMProcessor(
        build_tokenizer(CORPUS, vocab_size=300), ProcessorConfig(IMAGE_SIZE, VISUAL_TOKENS)
    )


@pytest.fixture(scope='session')
def tiny(processor: UnifiedMLLMProcessor, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    torch = pytest.importorskip('torch', reason='needs the extras [train] and [export]')
    pytest.importorskip('onnxscript', reason='needs the extras [train] and [export]')
    folder = tmp_path_factory.mktemp('tiny')
    processor.save_pretrained(folder)
    torch.manual_seed(1)
    language_model = _llama(processor.vocab_size)
    _export(folder / 'onnx', language_model, processor.vocab_size)
    return TinyModel(folder, processor, language_model)


@pytest.fixture(scope='session')
def engine(tiny: TinyModel) -> OnnxEngine:
    return OnnxEngine.load(tiny.folder / 'onnx', threads=1)


@pytest.fixture(scope='session')
def model(tiny: TinyModel) -> UnifiedModel:
    return UnifiedModel.load(tiny.folder, threads=1, max_tokens=48)


def _llama(vocab: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        vocab_size=vocab,
        initializer_range=0.4,  # far from uniform, so that equal answers mean something
    )
    return LlamaForCausalLM(config).eval()


def _export(folder: Path, language_model: Any, vocab: int) -> None:
    import torch

    from unifiedmllm_ros.runtime.export import Graph, decoder_graph, write_graph
    from unifiedmllm_ros.runtime.export_options import ExportOptions

    class Vision(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = torch.nn.Conv2d(3, HIDDEN, (12, 11), (12, 10))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.patches(pixels).flatten(2).transpose(1, 2)

    folder.mkdir()
    pixels, any_number = torch.rand(2, 3, *IMAGE_SIZE), torch.export.Dim.DYNAMIC
    names = (('pixels',), ('features',))
    vision = Graph('vision', Vision(), (pixels,), *names, shapes=({0: any_number},))
    options = ExportOptions(half_weights=False)
    graphs = {
        graph.name: GraphFile.model_validate(write_graph(graph, folder, options))
        for graph in (vision, decoder_graph(language_model))
    }
    manifest = Manifest(
        format=FORMAT,
        model='tiny',
        graphs=graphs,
        layers=LAYERS,
        kv_heads=KV_HEADS,
        head_dim=HIDDEN // HEADS,
        hidden=HIDDEN,
        vocab=vocab,
        image_size=IMAGE_SIZE,
        visual_tokens=VISUAL_TOKENS,
        max_length=512,
    )
    (folder / 'manifest.json').write_text(manifest.model_dump_json())


def graph_file(file: Path, inputs: list[str], outputs: list[str]) -> GraphFile:
    content = file.read_bytes()
    return GraphFile(
        file=file.name,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )
