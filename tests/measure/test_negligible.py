"""Which operators a FLOP count may leave out."""

from __future__ import annotations

import re

import pytest
import torch
from torch._ops import OpOverload

from labctl.measure.formula import formulas
from labctl.measure.negligible import STEMS, is_negligible, stem

aten = torch.ops.aten


def operators() -> list[OpOverload]:
    """Every aten operator of this torch."""
    found = []
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = name.partition("::")
        packet, _, overload = rest.partition(".")
        if namespace == "aten":
            found.append(getattr(getattr(aten, packet), overload or "default"))
    return found


def test_every_listed_family_exists() -> None:
    """A misspelt one would silence nothing, or one day something else."""
    assert {stem(operator.overloadpacket.__name__) for operator in operators()} >= STEMS


# Written from the names of torch's operators, not from the list under test.
MULTIPLIES = re.compile(
    "mm_?$|mm_|conv|lstm|gru|rnn|fft_|linalg_|cholesky|triangular_solve|cdist|pdist|attention"
    "|trilinear|linear|matmul|geqrf|ormqr|encoder_layer|_mv|_dot"
)
CHEAP_ALL_THE_SAME = {
    "_linalg_check_errors",
    "fft_fftfreq",
    "fft_rfftfreq",
    "linalg__powsum",
    "linalg_cross",
    "linalg_diagonal",
    "linalg_vector_norm",
    # element-wise gates, after products that are operators of their own
    "_thnn_fused_gru_cell",
    "_thnn_fused_gru_cell_backward",
    "_thnn_fused_lstm_cell",
    "_thnn_fused_lstm_cell_backward",
    "_thnn_fused_lstm_cell_backward_impl",
}


def test_no_operator_that_multiplies_matrices_is_negligible() -> None:
    negligible = {o.overloadpacket.__name__ for o in operators() if is_negligible(o)}
    found = {name for name in negligible if MULTIPLIES.search(name)}
    assert {name for name in found if "upsample" not in name} <= CHEAP_ALL_THE_SAME


def test_no_operator_with_a_formula_is_negligible() -> None:
    for packet in formulas():
        for overload in packet.overloads():
            operator = getattr(packet, overload)
            assert not is_negligible(operator), operator


@pytest.mark.parametrize(
    "operator",
    [
        aten.view.default,
        aten.add.Tensor,
        aten._foreach_mul_.ScalarList,
        aten.sum.dim_IntList,
        aten.native_layer_norm_backward.default,
        aten._log_softmax_backward_data.default,
        aten._fused_adamw_.tensor_lr,
        aten._local_scalar_dense.default,
        aten.bernoulli_.float,
        aten.index_put_.default,
        aten.cumsum.default,
    ],
    ids=str,
)
def test_bookkeeping_is_negligible(operator: OpOverload) -> None:
    assert is_negligible(operator)


@pytest.mark.parametrize(
    "operator",
    [
        aten._foreach_mm.default if hasattr(aten, "_foreach_mm") else aten.mm.default,
        aten._cdist_backward.default,
        aten._fft_c2c.default,
        aten.mkldnn_rnn_layer.default,
        aten._cudnn_rnn.default,
        aten._trilinear.default,
        aten._transformer_encoder_layer_fwd.default,
        aten._sparse_semi_structured_mm.default,
    ],
    ids=str,
)
def test_hidden_products_are_not(operator: OpOverload) -> None:
    assert not is_negligible(operator)


def test_other_libraries_are_believed_only_by_torch_s_own_tags() -> None:
    library = torch.library.Library("labctl_negligible_test", "DEF")
    library.define("add(Tensor x) -> Tensor")
    library.define("shift(Tensor x) -> Tensor", tags=torch.Tag.pointwise)
    ours = torch.ops.labctl_negligible_test
    assert not is_negligible(ours.add.default)
    assert is_negligible(ours.shift.default)
    library._destroy()
