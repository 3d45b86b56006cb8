"""Fields with which forks of Caffe choose how something is computed, not what. They are ignored, with a warning.

A field that changes the numbers is left for the spec to refuse.
"""

from __future__ import annotations

import logging
from pathlib import Path

from minicaffe.caffe.formats.schema import schema
from minicaffe.caffe.formats.tree import Scalar, Tree

logger = logging.getLogger("minicaffe")
ALWAYS = {  # NVIDIA's and Intel's, by message
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
    "TransformationParameter": {"display", "forward_packing", "use_gpu_transform"},
    "SolverParameter": {"per_parameter_reduce", "solver_data_type", "store_blobs_in_old_format"},
}  # fmt: skip
AT_THIS_VALUE = {
    "NetParameter": {"bn_stats_batch_size": "0"},
    "BatchNormParameter": {"relu": "false", "use_weight_bias": "false"},
    "ConvolutionParameter": {"fusion_type": "NONE_FUSION", "relu": "false"},
    "InnerProductParameter": {"relu": "false"},
    "PoolingParameter": {"avg_include_pad": "true", "torch_pooling": "false"},
    "DataParameter": {"shuffle": "false"},
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
    return field is None and texts == {AT_THIS_VALUE.get(message, {}).get(name)}
