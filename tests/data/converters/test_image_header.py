"""Sizes from headers, against what is decoded; damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.converters.layouts import picture
from unifiedmllm_ros.data.converters.image_header import image_size
from unifiedmllm_ros.errors import ImageError


@pytest.mark.parametrize('suffix', ['jpg', 'png'])
@pytest.mark.parametrize('size', [(1, 1), (640, 480), (333, 1021)])
def test_size(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    assert image_size(picture(tmp_path / f'a.{suffix}', *size)) == size


def test_cut_off(tmp_path: Path) -> None:
    for suffix in ('jpg', 'png'):
        path = picture(tmp_path / f'a.{suffix}')
        for length in (0, 3, 20):
            path.write_bytes(path.read_bytes()[:length])
            with pytest.raises(ImageError, match=str(path)):
                image_size(path)


def test_something_else(tmp_path: Path) -> None:
    path = tmp_path / 'a.jpg'
    path.write_bytes(b'GIF89a' + bytes(40))
    with pytest.raises(ImageError, match='neither a JPEG nor a PNG'):
        image_size(path)
