"""Translates the command line of Caffe's program, ``caffe train -solver x.prototxt -gpu 0``, into ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from minicaffe.errors import MinicaffeError

COMMANDS = {"train": "train", "test": "test", "time": "time", "device_query": "device"}
TOOLS = {"convert_imageset": "data images", "compute_image_mean": "data mean", "classification": "classify",
         "upgrade_net_proto_text": "convert", "upgrade_net_proto_binary": "convert"}  # fmt: skip
POSITIONAL = ("solver", "model")
SAME = ("weights", "snapshot", "iterations", "phase", "level", "stage", "sigint_effect", "sighup_effect")
LOG = ("logtostderr", "alsologtostderr", "colorlogtostderr", "log_dir", "minloglevel", "stderrthreshold", "v")
WITHOUT_VALUE = ("logtostderr", "alsologtostderr", "colorlogtostderr")


def as_ours(argv: Sequence[str]) -> list[str]:
    """Translate arguments of Caffe's program into ours; all others are returned unchanged.

    Caffe's flags begin with one dash or two, and their value follows ``=`` or a space. Flags for its log are
    dropped. Raises MinicaffeError if several GPUs are asked for but in training, and for Caffe's other programs.
    """
    if argv and argv[0] in TOOLS:
        our_command = TOOLS[argv[0]]
        raise MinicaffeError(
            f"{argv[0]}: here it is 'minicaffe {our_command}' ('minicaffe {our_command} --help' says how)"
        )
    if not argv or argv[0] not in COMMANDS:
        return list(argv)
    words = iter(argv[1:])
    ours = [COMMANDS[argv[0]]]
    for word in words:
        ours += _flag(word, words, ours[0]) if word.startswith("-") else [word]
    return ours


def _flag(word: str, words: Iterator[str], command: str) -> list[str]:
    """Our words for one of Caffe's flags; its value is taken from ``words`` if it follows after a space."""
    name, has_value, value = word.lstrip("-").partition("=")
    of_solver = command == "train" and name in ("level", "stage")
    is_ours = word.startswith("--") and name not in (*POSITIONAL, "gpu", *LOG) and not of_solver
    if is_ours or name not in (*POSITIONAL, "gpu", *SAME, *LOG):
        return [word]
    if not has_value and name not in WITHOUT_VALUE:
        try:
            value = next(words)
        except StopIteration:
            raise MinicaffeError(f"{word}: needs a value, as in {word} …") from None
    if of_solver:
        raise MinicaffeError(f"{word}: goes into the solver spec: train_state: {{{name}: {value}}}")
    if name in LOG:
        return []
    if name == "gpu":
        if command == "train" and (value == "all" or "," in value):
            return ["--gpus", value]
        return [] if command == "device" else ["--device", _device(value)]
    if name in POSITIONAL:
        return [value]
    values = value.split(",") if name == "stage" else [value.lower() if name == "phase" else value]
    return [part for each in values for part in (f"--{name}", each)]


def _device(gpu: str) -> str:
    if not gpu.isdecimal() and gpu != "all":
        raise MinicaffeError(f"-gpu {gpu}: one GPU, except in training; write '-gpu 0', or '--device gpu:0'")
    return "gpu" if gpu == "all" else f"gpu:{gpu}"
