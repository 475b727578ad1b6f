"""An expert of one's own works from outside the package: by its entry point and configuration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unifiedmllm_ros.errors import ExpertNotInstalledError
from unifiedmllm_ros.experts.base import Expert, ImageResult, Progress
from unifiedmllm_ros.experts.files import save_result
from unifiedmllm_ros.representation import parse
from unifiedmllm_ros.router import Router

OWN = Path(__file__).parent / 'own'
CONFIG = """
experts:
  cover:
    implementation: anonymiser
    kind: region_edit
    memory_mib: 1
    licence: MIT
    defaults: {cells: 2}
tasks: {regedit: cover}
"""
CALL = '<regedit>cover the face<p>face</p><box>[0.250, 0.250, 0.750, 0.750]</box></regedit>'


@pytest.fixture
def router(tmp_path: Path) -> Router:
    (tmp_path / 'experts.yaml').write_text(CONFIG, encoding='utf-8')
    return Router.from_file(tmp_path / 'experts.yaml')


def test_where_it_is_not_installed_the_error_says_so(router: Router) -> None:
    (call,) = parse(CALL)[0].calls
    with pytest.raises(ExpertNotInstalledError, match=r"'anonymiser' is not installed"):
        router.run(call, np.zeros((40, 40, 3), np.uint8))


def test_it_is_listed_loaded_run_and_unloaded_like_any_other(
    router: Router, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(OWN))
    assert router.registry.list()[0].state == 'available'
    (call,) = parse(CALL)[0].calls
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    heard: list[Progress] = []
    result = router.run(call, image, seed=4, progress=heard.append)
    assert isinstance(result, ImageResult)
    (covered,) = result.images
    assert len(np.unique(covered[10:30, 10:30].reshape(-1, 3), axis=0)) == 4
    np.testing.assert_array_equal(covered[:10], image[:10])
    assert [one.phase for one in heard] == ['load', 'cover', 'cover']
    expert = router.registry.get('cover')
    assert isinstance(expert, Expert)
    assert router.registry.list()[0].state == 'loaded'
    (path,) = save_result(result, tmp_path, 'covered')
    record = json.loads((tmp_path / 'covered.png.json').read_text())
    assert path.is_file()
    assert (record['expert'], record['seed'], record['parameters']) == ('cover', 4, {'cells': 2})
    finer = router.run(call, image, parameters={'cells': 4})
    assert isinstance(finer, ImageResult)
    assert len(np.unique(finer.images[0][10:30, 10:30].reshape(-1, 3), axis=0)) == 16
    router.close()
    assert not expert.loaded  # type: ignore[attr-defined]
