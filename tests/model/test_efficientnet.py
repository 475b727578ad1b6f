"""The backbone: strides, TensorFlow padding, its published weights."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')

from unifiedmllm_ros.model.efficientnet import EfficientNetLite0, SameConv2d  # noqa: E402


def test_pyramid_has_strides_of_8_16_and_32() -> None:
    maps = EfficientNetLite0().eval()(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(1, 40, 8, 12), (1, 112, 4, 6), (1, 192, 2, 3)]


@pytest.mark.parametrize('kernel', [3, 5])
def test_padding_puts_the_surplus_right_and_below(kernel: int) -> None:
    conv = SameConv2d(1, 1, kernel, 2, bias=False)
    torch.nn.init.ones_(conv.weight)
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    out = conv(image)
    assert out.shape == (1, 1, 2, 2)
    # The first window of TensorFlow's scheme starts at -(pad // 2): 0 for 3, -1 for 5.
    start = 0 if kernel == 3 else -1
    rows = range(max(start, 0), min(start + kernel, 4))
    assert float(out[0, 0, 0, 0]) == sum(float(image[0, 0, r, c]) for r in rows for c in rows)


def test_published_weights_load_and_foreign_ones_are_named(tmp_path: Path) -> None:
    from unifiedmllm_ros.training.tabletop_nano import imagenet_file

    network = EfficientNetLite0()
    network.load_imagenet(imagenet_file())
    maps = network.eval()(torch.rand(1, 3, 64, 96))
    assert all(torch.isfinite(m).all() for m in maps)
    foreign = tmp_path / 'foreign.pth'
    torch.save({'weight': torch.zeros(1)}, foreign)
    with pytest.raises(ValueError, match='EfficientNet-Lite0'):
        network.load_imagenet(foreign)
