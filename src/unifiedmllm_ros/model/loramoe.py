"""LoRAMoE as a method of PEFT: its configuration, its model, and their registration.

Importing this module makes `peft.get_peft_model`, `PeftModel.from_pretrained` and the other
doors of PEFT know the type LORAMOE. The loss that keeps the experts apart is in `balancing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from peft.config import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import PeftType, register_peft_method
from torch import nn

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model.loramoe_layer import LoraMoELinear

METHOD = 'loramoe'
PREFIX = 'loramoe_'
# The feed-forward linears of `transformers`' language models, by model type.
_GATED = ('gate_proj', 'up_proj', 'down_proj')
_PLAIN = ('fc1', 'fc2')
FEED_FORWARD: Mapping[str, tuple[str, ...]] = {
    'gemma': _GATED,
    'gemma2': _GATED,
    'gpt_neox': ('dense_h_to_4h', 'dense_4h_to_h'),
    'granite': _GATED,
    'llama': _GATED,
    'mistral': _GATED,
    'olmo2': _GATED,
    'opt': _PLAIN,
    'phi': _PLAIN,
    'phi3': ('gate_up_proj', 'down_proj'),
    'qwen2': _GATED,
    'qwen3': _GATED,
}
MULTIMODAL = 'unifiedmllm'


def _extend_peft_types(name: str) -> PeftType:
    """PEFT lists its methods in an enumeration that offers no door; this adds a member to it."""
    value = name.upper()
    if value in PeftType.__members__:
        return PeftType[value]
    member = str.__new__(PeftType, value)
    member._name_, member._value_ = value, value
    type.__setattr__(PeftType, value, member)
    PeftType._member_names_.append(value)
    PeftType._member_map_[value] = member
    PeftType._value2member_map_[value] = member
    return member


LORAMOE = _extend_peft_types(METHOD)


@dataclass
class LoraMoEConfig(PeftConfig):
    """Configuration of a LoRAMoE adapter.

    Attributes:
        r: rank of one expert, at least 1.
        alpha: the experts' sum is scaled by alpha / r.
        experts: how many; an even number, at least 2, because the balancing loss halves them.
        dropout: probability in [0, 1) on the experts' input while training.
        target_modules: names or a regular expression; without it the feed-forward linears of the
            language model.
        exclude_modules: names or a regular expression of linears to leave out.
        modules_to_save: other modules to train and save with the adapter, such as a projector.
        trainable_token_indices: ids whose embeddings are trained and saved with the adapter, or
            such ids by the name of the embedding layer.
        init_weights: start with experts that add nothing (B = 0).
        balance_delta: delta of the balancing loss, in [0, 1).
        balance_weight: its factor in the training loss, at least 0.
        balance_published: compute that loss as the published code does, padding included.
    """

    r: int = 4
    alpha: float = 32.0
    experts: int = 8
    dropout: float = 0.05
    target_modules: list[str] | set[str] | str | None = None
    exclude_modules: list[str] | set[str] | str | None = None
    modules_to_save: list[str] | None = None
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None
    init_weights: bool = True
    balance_delta: float = 0.1
    balance_weight: float = 0.1
    balance_published: bool = False
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = LORAMOE
        _require(self.r >= 1, 'r', self.r, 'at least 1')
        _require(
            self.experts >= 2 and self.experts % 2 == 0, 'experts', self.experts, 'even, 2 or more'
        )
        _require(0 <= self.dropout < 1, 'dropout', self.dropout, 'in [0, 1)')
        _require(0 <= self.balance_delta < 1, 'balance_delta', self.balance_delta, 'in [0, 1)')
        _require(self.balance_weight >= 0, 'balance_weight', self.balance_weight, '0 or more')
        # PEFT tells lists of names by their being sets.
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)


def _require(holds: bool, name: str, value: float, wanted: str) -> None:
    if not holds:
        raise ConfigError(f'LoraMoEConfig.{name} is {value}; it must be {wanted}')


class LoraMoEModel(BaseTuner):
    """A model whose feed-forward linears carry LoRAMoE adapters; the base is frozen.

    Made by `peft.get_peft_model(model, LoraMoEConfig())`, seldom by hand.
    """

    prefix: ClassVar[str] = PREFIX
    tuner_layer_cls = LoraMoELinear
    target_module_mapping: ClassVar[Mapping[str, tuple[str, ...]]] = FEED_FORWARD

    def train(self, mode: bool = True) -> LoraMoEModel:
        """As usual, but the base stays as it is: its batch norms go on using their statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def _prepare_adapter_config(
        self, peft_config: LoraMoEConfig, model_config: dict[str, Any]
    ) -> LoraMoEConfig:
        if peft_config.target_modules is None:
            peft_config.target_modules = _feed_forward(model_config)
        return peft_config

    def _create_and_replace(
        self,
        peft_config: LoraMoEConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        if isinstance(target, LoraMoELinear):
            target.update_layer(adapter_name, peft_config)
            return
        if not isinstance(target, nn.Linear):
            raise ConfigError(
                f'LoRAMoE adapts linear layers, {current_key} is a {type(target).__name__}: '
                'take it out of target_modules'
            )
        layer = LoraMoELinear(target, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)


def _feed_forward(model_config: Mapping[str, Any]) -> set[str] | str:
    """The default target of a model: the feed-forward linears of its language model alone."""
    kind = model_config.get('model_type')
    if kind == MULTIMODAL:
        # Encoders have linears of the same names; they stay as they are.
        names = '|'.join(_names(model_config['text_config']['model_type']))
        return rf'(.*\.)?language_model\..*\.({names})'
    return set(_names(kind))


def _names(kind: str | None) -> tuple[str, ...]:
    if kind is None or kind not in FEED_FORWARD:
        raise ConfigError(
            f'the feed-forward linears of {kind!r} are not known: name them in '
            'LoraMoEConfig(target_modules=[...])'
        )
    return FEED_FORWARD[kind]


register_peft_method(name=METHOD, config_cls=LoraMoEConfig, model_cls=LoraMoEModel, prefix=PREFIX)
