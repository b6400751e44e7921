"""Aten operations that count no multiply-adds by convention, by name.

Element-wise operations, views and factories are known by their schema and are not listed here. ``docs/costs.md`` lists
them by kind.
"""

from __future__ import annotations

#: Names without namespace and overload; what follows a ``#`` is a heading.
_ATEN = """
    # reductions
    sum nansum mean nanmean median nanmedian mode prod amax amin aminmax _aminmax max min argmax argmin all any
    norm linalg_vector_norm linalg__powsum native_norm var var_mean std std_mean logsumexp cumsum cumprod cummax
    cummin _cummax_helper _cummin_helper logcumsumexp _logcumsumexp count_nonzero dist trace _is_all_true
    _is_any_true histc histogram _histogramdd_bin_edges _histogramdd_from_bin_cts _histogramdd_from_bin_tensors
    bincount segment_reduce renorm allclose equal hash_tensor floor_divide __and__ __or__ __xor__ __lshift__
    __rshift__
    # normalisation
    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training
    _native_batch_norm_legit_functional _batch_norm_with_update _batch_norm_with_update_functional
    _batch_norm_no_update cudnn_batch_norm miopen_batch_norm batch_norm_stats batch_norm_elemt
    batch_norm_gather_stats batch_norm_gather_stats_with_counts batch_norm_update_stats quantized_batch_norm
    native_layer_norm native_group_norm _fused_rms_norm rms_norm _weight_norm_interface
    # activations, gates, dropout, and choosing a kernel
    softmax _softmax _safe_softmax _masked_softmax log_softmax _log_softmax _sparse_softmax _sparse_log_softmax
    _nested_tensor_softmax_with_shape glu log_sigmoid_forward prelu _prelu_kernel hardswish rrelu_with_noise
    rrelu_with_noise_functional gelu threshold relu sigmoid tanh _add_relu mish log_sigmoid batch_norm glu_jvp
    glu_backward_jvp _thnn_fused_lstm_cell _thnn_fused_gru_cell native_dropout _fused_dropout _masked_scale
    alpha_dropout feature_dropout _transform_bias_rescale_qkv _fused_sdp_choice
    # pooling
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    _adaptive_avg_pool2d _adaptive_avg_pool3d max_pool2d_with_indices max_pool3d_with_indices max_pool1d max_pool2d
    max_pool3d adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d max_unpool2d
    max_unpool3d mkldnn_max_pool2d mkldnn_max_pool3d mkldnn_adaptive_avg_pool2d quantized_max_pool1d
    quantized_max_pool2d quantized_max_pool3d
    # resampling and padding
    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa grid_sampler_2d grid_sampler_3d
    _grid_sampler_2d_cpu_fallback cudnn_grid_sampler pixel_shuffle pixel_unshuffle channel_shuffle im2col col2im
    constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
    replication_pad3d
    # looking up, sorting and moving
    embedding embedding_renorm index _unsafe_index _unsafe_masked_index
    _unsafe_masked_index_put_accumulate index_put _unsafe_index_put _index_put_impl index_select index_add
    index_copy index_fill index_reduce gather scatter scatter_add scatter_reduce select_scatter slice_scatter
    _embedding_bag_backward _embedding_bag_dense_backward _embedding_bag_sparse_backward
    _embedding_bag_per_sample_weights_backward _segment_reduce_backward
    diagonal_scatter as_strided_scatter take put masked_select masked_scatter masked_fill nonzero nonzero_static
    where searchsorted bucketize isin sort topk kthvalue msort argsort unique_dim _unique _unique2
    unique_consecutive unique_dim_consecutive repeat repeat_interleave roll flip rot90 tril triu cat stack _stack
    _chunk_cat block_diag diag_embed diag unsafe_split unsafe_split_with_sizes split_with_sizes_copy linalg_cross
    cross _pack_padded_sequence _padded_dense_to_jagged_forward _jagged_to_padded_dense_forward to_padded_tensor
    # copies, casts and new tensors
    clone copy copy_sparse_to_sparse _copy_from _copy_from_and_resize _to_copy _to_dense to_dense _to_sparse
    _to_sparse_csr _to_sparse_csc _to_sparse_bsr _to_sparse_bsc to_mkldnn _mkldnn_reshape _mkldnn_transpose
    mkldnn_reorder_conv2d_weight mkldnn_reorder_conv3d_weight contiguous _lazy_clone _conj_copy _conj_physical
    _unsafe_view _reshape_copy _reshape_alias lift lift_fresh lift_fresh_copy fill full_like zero zeros_like ones_like
    rand_like randn_like randint_like empty_like new_empty new_empty_strided new_full new_ones new_zeros set resize
    resize_as resize_as_sparse _resize_output _pin_memory complex polar view_as_real view_as_complex squeeze
    unsqueeze transpose t detach as_strided select slice diagonal unfold expand permute
    _new_zeros_with_same_feature_meta record_stream empty_strided empty_permuted scalar_tensor narrow
    _efficientzerotensor
    # drawing at random
    bernoulli binomial normal uniform exponential geometric cauchy log_normal poisson multinomial random
    _standard_gamma _standard_gamma_grad _sample_dirichlet _dirichlet_grad normal_functional _philox_normal
    _philox_uniform _philox_key_fold_in _philox_key_split randperm _cudnn_init_dropout_state
    _fill_mem_eff_dropout_mask_
    # losses
    mse_loss smooth_l1_loss huber_loss soft_margin_loss binary_cross_entropy binary_cross_entropy_with_logits
    nll_loss_forward nll_loss2d_forward nll_loss nll_loss2d multi_margin_loss multilabel_margin_loss_forward
    multilabel_margin_loss _ctc_loss _cudnn_ctc_loss _use_cudnn_ctc_loss miopen_ctc_loss _use_miopen_ctc_loss
    l1_loss
    # quantizing
    quantize_per_tensor quantize_per_channel quantize_per_tensor_dynamic dequantize int_repr q_scale q_zero_point
    q_per_channel_scales q_per_channel_zero_points q_per_channel_axis qscheme _empty_affine_quantized
    _empty_per_channel_affine_quantized _make_per_tensor_quantized_tensor _make_per_channel_quantized_tensor
    empty_quantized fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams _fake_quantize_learnable_per_tensor_affine
    _fake_quantize_learnable_per_channel_affine _fused_moving_avg_obs_fq_helper
    _fused_moving_avg_obs_fq_helper_functional _choose_qparams_per_tensor choose_qparams_optimized
    _convert_weight_to_int4pack _convert_weight_to_int4pack_for_cpu _dyn_quant_pack_4bit_weight
    # questions, checks and making sparse or nested tensors
    is_pinned is_set_to is_same_size is_coalesced _nnz sparse_dim dense_dim _dimI _dimV values indices crow_indices
    col_indices _has_same_storage_numel _local_scalar_dense item _assert_async _functional_assert_async
    _assert_tensor_metadata _functional_assert_scalar _functional_sym_constrain_range
    _functional_sym_constrain_range_for_size _validate_compressed_sparse_indices sym_size sym_numel sym_stride
    sym_storage_offset sym_constrain_range sym_constrain_range_for_size _sparse_coo_tensor_with_dims_and_tensors
    sparse_coo_tensor sparse_compressed_tensor _coalesced coalesce _coalesce sparse_mask _sparse_mask_projection
    _sparse_sum _sparse_csr_sum _sparse_broadcast_to _sparse_coo_tensor_with_dims sparse_resize
    sparse_resize_and_clear _spdiags _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo
    _nested_tensor_size _nested_tensor_strides _nested_tensor_storage_offsets _nested_get_offsets
    _nested_get_lengths _nested_get_min_seqlen _nested_get_max_seqlen _nested_get_ragged_idx
    _nested_get_jagged_dummy _nested_tensor_from_mask _nested_tensor_from_mask_left_aligned _nested_from_padded
    _nested_from_padded_tensor _nested_from_padded_and_nested_example _nested_tensor_from_tensor_list
    _nested_compute_contiguous_strides_offsets _linalg_check_errors _nested_select_backward _nested_sum_backward
"""

#: The same for operations that are not aten's.
_OTHERS = """
    quantized.add quantized.add_relu quantized.mul quantized.mul_relu quantized.add_scalar quantized.mul_scalar
    quantized.cat quantized.cat_relu quantized.relu6 quantized.leaky_relu quantized.hardswish quantized.sigmoid
    quantized.elu quantized.celu quantized.prelu quantized.softmax quantized.layer_norm quantized.group_norm
    quantized.instance_norm quantized.batch_norm1d quantized.batch_norm2d quantized.batch_norm2d_relu
    quantized.batch_norm3d quantized.batch_norm3d_relu quantized.batch_norm quantized.batch_norm_relu
    quantized.clamp quantized.threshold quantized.dropout quantized.max_pool1d quantized.max_pool2d
    quantized.embedding_byte quantized.embedding_4bit quantized.embedding_bag_byte quantized.embedding_bag_4bit
    quantized.linear_prepack quantized.linear_unpack quantized.conv1d_prepack quantized.conv2d_prepack
    quantized.conv3d_prepack quantized.conv1d_unpack quantized.conv2d_unpack quantized.conv3d_unpack
    torchvision.nms torchvision.roi_align torchvision.roi_pool torchvision.ps_roi_align torchvision.ps_roi_pool
"""

#: They query, or move data between processes and into and out of their buffers.
_SPACES = frozenset({"prim", "profiler", "c10d", "_c10d_functional", "c10d_functional", "fsdp"})


def _read_names(text: str) -> frozenset[str]:
    return frozenset(word for line in text.splitlines() if not line.strip().startswith("#") for word in line.split())


_NAMES = _read_names(_ATEN)
_OTHER_NAMES = _read_names(_OTHERS)

_ENDINGS = ("_backward_data", "_dense_backward", "_backward", "_elemt", "_reduce", "_impl")


def is_zero_by_name(op: str) -> bool:
    """Return whether ``"aten.native_layer_norm.default"`` counts 0 by convention, judged by its name.

    The backward of what counts 0 counts 0; so do lists of element-wise operations, and views made tensors of their own.
    """
    space, _, rest = op.partition(".")
    name = rest.partition(".")[0]
    if space in _SPACES or f"{space}.{name}" in _OTHER_NAMES:
        return True
    if space != "aten":
        return False
    bare = name.rstrip("_")
    if bare.startswith(("_foreach_", "_fused_ada", "_fused_sgd", "_amp_")):
        return bare != "_foreach_mm"
    if bare in _NAMES or name in _NAMES or bare.endswith("_copy"):
        return True
    stems = {bare.removesuffix(ending) for ending in _ENDINGS}
    return any(stem in _NAMES or f"_{stem}" in _NAMES or stem.removesuffix("_backward") in _NAMES for stem in stems)
