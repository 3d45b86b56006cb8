"""Fields with which forks of Caffe choose how something is computed, not what. They are ignored, with a warning.

A field that changes the numbers is left for the spec to refuse.
"""

from __future__ import annotations

import logging
from pathlib import Path

from minicaffe.caffe.formats.schema import schema
from minicaffe.caffe.formats.tree import Scalar, Tree

logger = logging.getLogger("minicaffe")
# By message: fields of NVIDIA and Intel, and of others that never read them, or only beside a field refused here.
ALWAYS = {
    "NetParameter": {
        *("default_forward_type", "default_backward_type", "default_forward_math", "default_backward_math"),
        *("default_conv_algos_override", "default_cudnn_math_override", "eltwise_mem_sharing", "reduce_buckets"),
        *("global_grad_scale", "global_grad_scale_adaptive", "compile_net_state", "multinode"),
    },
    "LayerParameter": {
        *("forward_type", "backward_type", "forward_math", "backward_math", "cudnn_math_override", "debug"),
        *("quantization_param", "split_param", "mn_activation_param", "mn_grad_compress_param"),
    },
    "ConvolutionParameter": {"conv_algorithm", "conv_algos_override", "cudnn_convolution_algo_seeker"},
    "ConcatParameter": {"per_fla_fuse"},
    "ReLUParameter": {"fuse"},
    "DataParameter": {"cache", "parser_threads", "precache", "threads"},
    "CTCParameter": {"threshold", "decode_type"},  # CTPN's
    "DetectNetAugmentationParameter": {
        *("resize_param", "noise_param", "distort_param", "expand_param", "emit_constraint"),
    },
    "TransformationParameter": {
        *("display", "forward_packing", "use_gpu_transform"),
        *("interpolation_algo_down", "interpolation_algo_up", "allow_upscale"),  # of NVIDIA's random resizing
        *("min_scaling_factor", "max_scaling_factor", "max_rotation_angle", "contrast_brightness_adjustment"),
        *("smooth_filtering", "min_contrast", "max_contrast", "max_brightness_shift", "max_smooth"),
        *("max_color_shift", "min_side_min", "min_side_max", "min_side", "apply_probability", "debug_params"),
    },  # from min_scaling_factor on of MobileNet-YOLO's enable_classf_aug
    "SolverParameter": {"per_parameter_reduce", "solver_data_type", "store_blobs_in_old_format"},
}  # fmt: skip
AT_THIS_VALUE = {
    "NetParameter": {"bn_stats_batch_size": "0"},
    "BatchNormParameter": {"relu": "false", "use_weight_bias": "false", "update_global_stats": "false"},
    "ConvolutionParameter": {"fusion_type": "NONE_FUSION", "relu": "false"},
    "InnerProductParameter": {"relu": "false"},
    "PoolingParameter": {"avg_include_pad": "true", "torch_pooling": "false"},
    "DataParameter": {"shuffle": "false"},
    "TransformationParameter": {
        **{f"img_rand_resize_{end}": "0" for end in ("lower", "upper")},
        **{f"rand_resize_ratio_{end}": "0" for end in ("lower", "upper")},
        **{f"{way}_stretch_{end}": "1" for way in ("vertical", "horizontal") for end in ("lower", "upper")},
        "enable_classf_aug": "false",
        "cvt_bgr2rgb": "false",
    },
    "SolverParameter": {
        "rampup_interval": "0",
        "warmup_iter": "0",
        "disabled_update": "false",
        "larc": "false",
        "local_lr_auto": "false",
    },
}


def drop_idle_fields(tree: Tree, message: str, path: str | Path) -> None:
    """Take them out of a tree of the fields of ``message``, at any depth, with one warning that names them."""
    found: dict[str, None] = {}
    _drop(tree, message, "", found)
    if found:
        logger.warning("%s: ignored, as it changes no numbers here: %s", path, ", ".join(found))


def _drop(tree: Tree, message: str, prefix: str, found: dict[str, None]) -> None:
    for name, values in list(tree.fields.items()):
        field = schema()[message].get(name)
        if _is_idle(message, name, values):
            tree.pop(name)
            found[prefix + name] = None
        elif field and field.kind in schema():
            inner = f"{name}." if name.endswith("_param") else ""
            for value in tree.trees(name):
                _drop(value, field.kind, inner, found)


def _is_idle(message: str, name: str, values: list[Scalar | Tree]) -> bool:
    field = schema()[message].get(name)
    if field is None and (name == "engine" or name in ALWAYS.get(message, ())):
        return True
    texts = {value.text for value in values if isinstance(value, Scalar)}
    if name == "engine" and field and field.values:  # an engine that Caffe does not have
        return not texts <= field.values.keys() | set(map(str, field.values.values()))
    idle = AT_THIS_VALUE.get(message, {}).get(name)
    return field is None and idle is not None and {_plain(text) for text in texts} == {idle}


def _plain(text: str) -> str:
    """A number as short as it can be written: 1 for 1.0. Other texts as they are."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text
