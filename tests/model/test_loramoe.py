"""LoRAMoE as a PEFT method on the tiny twin: attach, train, save, load, switch, balance."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('peft', reason='needs the extra [train]')

from peft import PeftConfig, PeftModel, get_peft_model  # noqa: E402

from tests.model.twin import IMAGE_SIZE, twin_model, twin_processor  # noqa: E402
from unifiedmllm_ros.errors import ConfigError, ModelError  # noqa: E402
from unifiedmllm_ros.model.balancing import (  # noqa: E402
    Routing,
    balancing_loss,
    importance,
    record_routing,
)
from unifiedmllm_ros.model.loramoe import LoraMoEConfig, LoraMoEModel  # noqa: E402

PROCESSOR = twin_processor()
LAYERS = 2 * 3  # two layers, each with gate, up and down


def adapted(**options) -> PeftModel:
    torch.manual_seed(1)
    return get_peft_model(twin_model(PROCESSOR), LoraMoEConfig(**options))


def batch() -> dict[str, torch.Tensor]:
    ids = torch.tensor([PROCESSOR.encode_conversation([('find the red mug', None)])] * 2)
    pixels = torch.rand(2, 3, *IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    return {'input_ids': ids, 'pixel_values': pixels, 'labels': ids.clone()}


def logits(model: torch.nn.Module) -> torch.Tensor:
    inputs = batch()
    with torch.no_grad():
        return model.eval()(**{**inputs, 'labels': None}).logits


def train(model: torch.nn.Module, steps: int = 3) -> list[float]:
    optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = model.train()(**batch()).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def test_only_feed_forward_linears_of_the_language_model_are_adapted() -> None:
    model = adapted()
    names = model.base_model.targeted_module_names
    assert isinstance(model.base_model, LoraMoEModel)
    assert len(names) == LAYERS
    assert all('language_model' in name and 'mlp' in name for name in names)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert len(trained) == 3 * LAYERS
    assert all('loramoe_' in name for name in trained)


def test_new_adapter_changes_nothing_and_training_changes_only_it() -> None:
    base, model = twin_model(PROCESSOR), adapted(dropout=0.0)
    before = logits(base)
    assert torch.equal(logits(model), before)
    losses = train(model)
    assert losses[-1] < losses[0]
    assert not torch.equal(logits(model), before)
    with model.disable_adapter():
        assert torch.equal(logits(model), before)


def test_saved_adapter_loads_bit_equal(tmp_path: Path) -> None:
    model = adapted(r=2, experts=4)
    train(model)
    model.save_pretrained(tmp_path)
    assert (tmp_path / 'adapter_model.safetensors').stat().st_size < 200_000
    config = PeftConfig.from_pretrained(tmp_path)
    assert isinstance(config, LoraMoEConfig)
    assert (config.r, config.experts, config.alpha) == (2, 4, 32.0)
    again = PeftModel.from_pretrained(twin_model(PROCESSOR), tmp_path)
    assert torch.equal(logits(again), logits(model))


def test_a_projector_is_trained_and_saved_with_the_adapter(tmp_path: Path) -> None:
    model = adapted(modules_to_save=['image_tower.projector'])
    train(model)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(twin_model(PROCESSOR), tmp_path)
    assert torch.equal(logits(again), logits(model))
    fresh = dict(twin_model(PROCESSOR).image_tower.projector.named_parameters())
    projector = again.image_tower.projector.modules_to_save['default']
    assert any(not torch.equal(p, fresh[name]) for name, p in projector.named_parameters())


def test_adapters_are_added_switched_and_deleted() -> None:
    model = adapted(init_weights=False)
    first = logits(model)
    model.add_adapter('second', LoraMoEConfig(r=2, experts=2, init_weights=False))
    assert torch.equal(logits(model), first)
    model.set_adapter('second')
    assert not torch.equal(logits(model), first)
    model.set_adapter('default')
    assert torch.equal(logits(model), first)
    model.delete_adapter('second')
    assert torch.equal(logits(model), first)
    base = model.unload()
    assert torch.equal(logits(base), logits(twin_model(PROCESSOR)))


def test_merging_is_refused_with_the_reason() -> None:
    with pytest.raises(NotImplementedError, match='every token'):
        adapted().merge_and_unload()


def test_router_is_computed_in_float32_under_bfloat16() -> None:
    model = adapted(init_weights=False).to(torch.bfloat16)
    inputs = {**batch(), 'labels': None}
    inputs['pixel_values'] = inputs['pixel_values'].to(torch.bfloat16)
    with record_routing(model) as routing, torch.no_grad():
        assert model(**inputs).logits.dtype == torch.bfloat16
    for probabilities in routing.of('default'):
        assert probabilities.dtype == torch.float32
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(probabilities.shape[:2]))


def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
    model = adapted(dropout=0.1, init_weights=False, balance_weight=1.0)
    if checkpointing:
        model.language_model.gradient_checkpointing_enable({'use_reentrant': False})
        model.language_model.enable_input_require_grads()
    model.train()
    torch.manual_seed(3)
    with record_routing(model) as routing:
        loss = model(**batch()).loss
    assert len(routing.of('default')) == LAYERS
    (loss + balancing_loss(routing, model.peft_config['default'], [1, 0])).backward()
    assert len(routing.of('default')) == LAYERS
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    plain, saved = gradients(False), gradients(True)
    adapters = [name for name in plain if 'loramoe_' in name]
    assert len(adapters) == 3 * LAYERS
    for name in adapters:
        torch.testing.assert_close(saved[name], plain[name], msg=name)


def test_lost_gradient_is_an_error() -> None:
    model = adapted(init_weights=False)
    model.language_model.gradient_checkpointing_enable({'use_reentrant': True})
    model.language_model.enable_input_require_grads()
    with record_routing(model.train()) as routing:
        model(**batch())
    with pytest.raises(ModelError, match='use_reentrant'):
        balancing_loss(routing, model.peft_config['default'], [1, 0])


def test_padding_and_length_do_not_count() -> None:
    routes = torch.rand(1, 5, 4).softmax(-1)
    padded = torch.cat((routes, torch.full((1, 3, 4), 0.25)), dim=1)
    mask = torch.tensor([[1] * 5 + [0] * 3])
    torch.testing.assert_close(importance(padded, mask), importance(routes, None))
    doubled = torch.cat((routes, routes), dim=1)
    torch.testing.assert_close(importance(doubled, None), importance(routes, None))
    torch.testing.assert_close(
        importance(doubled, None, published=True), 2 * importance(routes, None, published=True)
    )


def test_minimising_the_loss_separates_the_halves() -> None:
    """The half that is scaled up gets (1 - delta) / 2, the other the rest: 0.25 and 0.75."""
    config = LoraMoEConfig(balance_delta=0.5, balance_weight=1.0)
    scores = torch.zeros(2, 3, 8, requires_grad=True)
    optimiser = torch.optim.Adam([scores], lr=0.1)
    for _ in range(60):
        with_routes = _routing(scores.softmax(-1))
        loss = balancing_loss(with_routes, config, [1, 0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    share = scores.softmax(-1).detach().mean(1)[:, :4].sum(-1)
    assert float(loss.detach()) < 0.01
    assert share.tolist() == pytest.approx([0.25, 0.75], abs=0.03)


def _routing(probabilities: torch.Tensor) -> Routing:
    return Routing([('default', probabilities)])


@pytest.mark.parametrize(
    ('options', 'name'),
    [
        ({'r': 0}, 'r'),
        ({'experts': 3}, 'experts'),
        ({'dropout': 1.0}, 'dropout'),
        ({'balance_delta': 1.5}, 'balance_delta'),
        ({'balance_weight': -1.0}, 'balance_weight'),
    ],
)
def test_bad_numbers_are_named(options: dict, name: str) -> None:
    with pytest.raises(ConfigError, match=rf'LoraMoEConfig\.{name} is'):
        LoraMoEConfig(**options)


def test_wrong_shapes_are_named() -> None:
    config = LoraMoEConfig()
    routes = torch.rand(2, 3, 8)
    with pytest.raises(ModelError, match='for 2 samples'):
        balancing_loss(_routing(routes), config, [1])
    with pytest.raises(ModelError, match='mask'):
        balancing_loss(_routing(routes), config, [1, 0], torch.ones(2, 4))
    with pytest.raises(ModelError, match='no routes'):
        balancing_loss(_routing(routes), config, [1, 0], adapter_name='other')
