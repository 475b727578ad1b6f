"""Batch norms folded into convolutions: the same maps, and weights that half precision keeps."""

from __future__ import annotations

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')

from unifiedmllm_ros.model.efficientnet import EfficientNetLite0  # noqa: E402
from unifiedmllm_ros.model.folding import fold_batch_norms  # noqa: E402


def backbone() -> EfficientNetLite0:
    torch.manual_seed(0)
    model = EfficientNetLite0().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    return model


def test_a_folded_backbone_gives_the_same_maps() -> None:
    model, image = backbone(), torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        before = model(image)
        fold_batch_norms(model)
        after = model(image)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_what_is_left_of_a_norm_changes_nothing_even_in_half_precision() -> None:
    model = backbone()
    fold_batch_norms(model)
    halved = model.half().float()
    norms = [m for m in halved.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 45
    for norm in norms:
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        assert (scale == 1.0).all()
        assert (norm.running_mean == 0.0).all()
