"""The kernels become machine code for each generation of GPUs; none is needed for that."""

from __future__ import annotations

from typing import Any

import pytest

triton = pytest.importorskip('triton', reason='needs triton: pip install triton')

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from unifiedmllm_ros.runtime import fused_kernels  # noqa: E402

AMPERE, ADA, HOPPER, BLACKWELL = 80, 89, 90, 120
VECTORS = dict.fromkeys(('source', 'target', 'norm', 'added'), '*fp32')
MATVEC = {**VECTORS, 'weight': '*bf16', 'scale': 'fp32', 'eps': 'fp32', 'N': 'i32'}
ATTEND = {
    **dict.fromkeys(('projected', 'cosines', 'sines', 'parts', 'target'), '*fp32'),
    **dict.fromkeys(('keys', 'values'), '*bf16'),
    **dict.fromkeys(('place', 'slot'), '*i64'),
    'visible': '*u8',
    'arrived': '*i32',
    'scale': 'fp32',
    'PLACES': 'i32',
    'SPAN': 'i32',
}
WAYS = {
    'norm': {'NORM': True, 'GATED': False, 'ADDED': False},
    'gated': {'NORM': True, 'GATED': True, 'ADDED': False},
    'added': {'NORM': False, 'GATED': False, 'ADDED': True},
}


def compiled(kernel: Any, arguments: dict[str, str], constants: dict[str, Any], gpu: int) -> Any:
    """Compile as a launch does that is chained where the GPU can chain."""
    chained = gpu >= HOPPER
    constants = {**constants, 'CHAINED': chained}
    order = [parameter.name for parameter in kernel.params]
    kinds = {name: arguments.get(name, 'constexpr') for name in order}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=constants)
    options = {'num_warps': 8, **({'launch_pdl': True} if chained else {})}
    return triton.compile(source, target=GPUTarget('cuda', gpu, 32), options=options)


def assert_chained(code: Any, gpu: int) -> None:
    assert len(code.asm['cubin']) > 1000
    # Waits for the kernel in front, and lets the next one start.
    assert ('griddepcontrol.wait' in code.asm['ptx']) == (gpu >= HOPPER)
    assert ('griddepcontrol.launch_dependents' in code.asm['ptx']) == (gpu >= HOPPER)


@pytest.mark.parametrize('gpu', [AMPERE, ADA, HOPPER, BLACKWELL])
@pytest.mark.parametrize('way', WAYS)
def test_products_compile(way: str, gpu: int) -> None:
    constants = {**WAYS[way], 'K': 576, 'BLOCK_N': 2, 'BLOCK_K': 1024}
    assert_chained(compiled(fused_kernels.matvec, MATVEC, constants, gpu), gpu)


@pytest.mark.parametrize('gpu', [AMPERE, ADA, HOPPER, BLACKWELL])
@pytest.mark.parametrize('splits', [1, 3])
def test_attention_compiles(splits: int, gpu: int) -> None:
    constants = {'HEADS': 9, 'GROUPS': 3, 'WIDTH': 64, 'BLOCK': 64, 'SPLITS': splits, 'MOST': 4}
    assert_chained(compiled(fused_kernels.attend, ATTEND, constants, gpu), gpu)
