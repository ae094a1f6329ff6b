"""Operators that need no FLOP formula: their work is a small multiple of the data they touch.

A FLOP count adds up the multiply-accumulates of products and convolutions. An operator without a
formula adds nothing, which is right for an addition and wrong for a recurrent layer. What is
negligible is therefore listed, and an operator that is not listed is reported by name.
"""

from __future__ import annotations

from functools import cache

import torch
from torch._ops import OpOverload

_TAGS = {"pointwise", "reduction", "view_copy"}
"""What torch itself says of an operator. Names, since not every torch has every tag."""

_NAMESPACES = {"profiler"}
"""Marks that optimizers leave in a trace; they compute nothing."""

_SUFFIXES = ("_backward_data", "_backward_impl", "_backward", "_forward")

_VIEWS_AND_COPIES = """
    as_strided as_strided_scatter channel_shuffle clone copy copy_sparse_to_sparse detach lazy_clone
    lift pin_memory pixel_shuffle pixel_unshuffle record_stream reshape_copy resize resize_as
    resize_output set squeeze t to_copy transpose unsafe_split unsafe_split_with_sizes unsafe_view
    unsqueeze
"""
_CREATION = """
    arange bartlett_window blackman_window efficientzerotensor empty empty_like empty_permuted
    empty_strided eye fft_fftfreq fft_rfftfreq fill full full_like hamming_window hann_window
    kaiser_window linspace logspace new_empty new_empty_strided new_full new_ones new_zeros
    new_zeros_with_same_feature_meta ones ones_like range scalar_tensor tril_indices triu_indices
    zero zeros zeros_like
"""
_RANDOM = """
    bernoulli binomial cauchy exponential fill_mem_eff_dropout_mask fused_dropout geometric
    log_normal masked_scale multinomial native_dropout normal normal_functional poisson rand
    rand_like randint randint_like randn randn_like random randperm rrelu_with_noise
    rrelu_with_noise_functional sample_dirichlet standard_gamma standard_gamma_grad uniform
"""
_INDEXING = """
    bincount block_diag bucketize cat chunk_cat col2im constant_pad_nd diag_embed diagonal
    diagonal_scatter embedding embedding_bag embedding_bag_dense embedding_bag_forward_only
    embedding_bag_per_sample_weights embedding_dense embedding_renorm flip gather histc im2col index
    index_add index_copy index_fill index_put index_put_impl index_reduce index_select isin
    masked_fill masked_scatter masked_select nonzero nonzero_static pack_padded_sequence put
    reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d
    replication_pad2d replication_pad3d roll rot90 scatter scatter_add scatter_reduce searchsorted
    segment_reduce select select_scatter slice stack take tril triu unfold unsafe_index
    unsafe_index_put unsafe_masked_index unsafe_masked_index_put_accumulate
"""
_REDUCTIONS_AND_CHECKS = """
    allclose aminmax assert_async assert_scalar assert_tensor_metadata cummax cummax_helper cummin
    cummin_helper cumprod cumsum dist functional_assert_async functional_assert_scalar
    fused_sdp_choice has_same_storage_numel is_all_true is_any_true kthvalue linalg_check_errors
    local_scalar_dense logcumsumexp median mode nanmedian native_norm powsum renorm sort topk trace
    unique unique2 unique_consecutive unique_dim unique_dim_consecutive weight_norm_interface
"""
_NORMALISATION_AND_SOFTMAX = """
    batch_norm batch_norm_backward_elemt batch_norm_backward_reduce batch_norm_elemt
    batch_norm_gather_stats batch_norm_gather_stats_with_counts batch_norm_no_update
    batch_norm_stats batch_norm_update_stats batch_norm_with_update
    batch_norm_with_update_functional cudnn_batch_norm fused_rms_norm log_softmax masked_softmax
    miopen_batch_norm native_batch_norm native_batch_norm_legit native_batch_norm_legit_functional
    native_batch_norm_legit_no_training native_group_norm native_layer_norm safe_softmax softmax
"""
_POOLING_AND_INTERPOLATION = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d
    adaptive_max_pool3d affine_grid_generator avg_pool1d avg_pool2d avg_pool3d
    cudnn_affine_grid_generator cudnn_grid_sampler fractional_max_pool2d fractional_max_pool3d
    grid_sampler_2d grid_sampler_2d_cpu_fallback grid_sampler_3d max_pool2d max_pool2d_with_indices
    max_pool3d_with_indices max_unpool2d max_unpool3d mkldnn_max_pool2d mkldnn_max_pool3d
    upsample_bicubic2d upsample_bicubic2d_aa upsample_bilinear2d upsample_bilinear2d_aa
    upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_nearest_exact1d upsample_nearest_exact2d upsample_nearest_exact3d upsample_trilinear3d
"""
_LOSSES_AND_ARITHMETIC = """
    add_relu addr binary_cross_entropy binary_cross_entropy_with_logits complex ctc_loss
    cudnn_ctc_loss elu floor_divide glu hardswish huber_loss irshift linalg_cross log_sigmoid lshift
    mse_loss multi_margin_loss multilabel_margin_loss nll_loss nll_loss2d polar prelu_kernel rshift
    rsub smooth_l1_loss soft_margin_loss thnn_fused_gru_cell thnn_fused_lstm_cell xlogy
"""
_OPTIMIZERS = """
    amp_foreach_non_finite_check_and_unscale amp_update_scale fused_adagrad fused_adam fused_adamw
    fused_sgd
"""
STEMS = frozenset(
    "".join(
        (
            _VIEWS_AND_COPIES,
            _CREATION,
            _RANDOM,
            _INDEXING,
            _REDUCTIONS_AND_CHECKS,
            _NORMALISATION_AND_SOFTMAX,
            _POOLING_AND_INTERPOLATION,
            _LOSSES_AND_ARITHMETIC,
            _OPTIMIZERS,
        )
    ).split()
)
"""aten operators that torch does not tag, by stem (see `stem`)."""


@cache
def is_negligible(operator: OpOverload) -> bool:
    """Whether `operator` may be left out of a FLOP count.

    True of views, creation, copies, random numbers, indexing, element-wise arithmetic, reductions,
    scans, sorting, normalisation, softmax, pooling, interpolation, losses and optimizer updates.
    False of all else, other libraries' operators too unless tagged element-wise or reducing.
    """
    if operator.namespace in _NAMESPACES or operator.is_view or _is_tagged(operator):
        return True
    if operator.namespace != "aten":
        return False
    name = stem(operator.overloadpacket.__name__)
    return name in STEMS or any(map(_is_tagged, _overloads(name)))


def stem(name: str) -> str:
    """`native_layer_norm` of `native_layer_norm_backward`, `add` of `_foreach_add_`.

    What works in place, on a list, or for the gradient, does the same order of work.
    """
    name = name.removeprefix("_foreach").strip("_")
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _overloads(name: str) -> list[OpOverload]:
    packet = getattr(torch.ops.aten, name, None)
    return [] if packet is None else [getattr(packet, overload) for overload in packet.overloads()]


def _is_tagged(operator: OpOverload) -> bool:
    return any(tag.name in _TAGS for tag in operator.tags)
