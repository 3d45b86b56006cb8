"""The defaults of fields that forks have added: those of the specs are those of ``forks.proto``, or listed here."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minicaffe.caffe.formats.schema import Field, schema
from minicaffe.layers.annotated_data import AnnotatedDataParam
from minicaffe.pycaffe.proto.full_schema import all_fields, defaults
from minicaffe.spec import fields

Key = tuple[str, str]

# Where the value that the fork's message has for an absent field is not the one of the spec: that one, and why.
STOPS_THERE_TOO = "required here; the fork stops at its default of 0"
ASKS_WHETHER_GIVEN = "the fork asks whether the field is given, as the layer here does"
DIFFER = {
    ("AnnotatedDataParameter", "yolo_data_jitter"): (None, "0.3 with labels of YOLO, see the test below"),
    ("CTCLossParameter", "alphabet_size"): (None, STOPS_THERE_TOO),
    ("CTCLossParameter", "time_step"): (None, STOPS_THERE_TOO),
    ("ContinuationIndicatorParameter", "batch_size"): (None, STOPS_THERE_TOO),
    ("ContinuationIndicatorParameter", "time_step"): (None, STOPS_THERE_TOO),
    ("DenseImageDataParameter", "batch_size"): (1, "as in ImageData; the fork has 0, and no images"),
    ("DetectionOutputParameter", "confidence_threshold"): (-math.inf, "the fork's code has −FLT_MAX"),
    ("DetectionOutputParameter", "visualize_threshold"): (0.6, "the fork's code has it"),
    ("InterpParameter", "height"): (None, ASKS_WHETHER_GIVEN),
    ("InterpParameter", "shrink_factor"): (None, ASKS_WHETHER_GIVEN),
    ("InterpParameter", "width"): (None, ASKS_WHETHER_GIVEN),
    ("InterpParameter", "zoom_factor"): (None, ASKS_WHETHER_GIVEN),
    ("NonMaximumSuppressionParameter", "top_k"): (-1, ASKS_WHETHER_GIVEN),
    ("ROIPoolingParameter", "pooled_h"): (None, STOPS_THERE_TOO),
    ("ROIPoolingParameter", "pooled_w"): (None, STOPS_THERE_TOO),
    ("UpsampleParameter", "scale"): (1, "MobileNet-YOLO's; SegNet's layer here has 2 if it is not given"),
}


def of_forks() -> Iterator[tuple[Key, Field, fields.Field[Any]]]:
    """(message and field, the field of the fork, the field of a spec), of all that hold one value."""
    for owner, name, ours in all_fields():
        theirs = schema().get(owner, {}).get(name)
        if theirs and theirs.of_fork and not theirs.repeated and not isinstance(ours, fields.Nested):
            yield (owner, name), theirs, ours


def differs(theirs: Field, ours: fields.Field[Any]) -> bool:
    """Whether a net without the field may mean something else here; one without a default is 0 in protobuf."""
    if not theirs.default:
        return ours.default not in (None, 0, "", *list(theirs.values)[:1])
    if theirs.kind in ("float", "int32", "uint32"):
        return ours.default is None or np.float32(ours.default) != np.float32(theirs.default)
    value = theirs.default == "true" if theirs.kind == "bool" else theirs.default
    return bool(ours.default != value)


def test_defaults_are_the_forks():
    found = {(key, ours.default) for key, theirs, ours in of_forks() if differs(theirs, ours)}
    assert found == {(key, default) for key, (default, _) in DIFFER.items()}


def test_defaults_are_of_the_kind_of_their_field():
    """Each can be read, and there are hundreds: a file whose form ``parse_schema`` does not know has none."""
    given = [field for message in schema().values() for field in message.values() if field.default]
    for field in given:
        if field.kind == "enum":
            assert field.default in field.values, field
        elif field.kind == "bool":
            assert field.default in ("true", "false"), field
        elif field.kind != "string":
            assert np.isfinite(float(field.default)), field
    assert len(given) > 250 and all(field.of_fork and not field.repeated for field in given)


def test_a_message_that_two_layers_declare_has_one_default():
    """Two types read ``ctc_loss_param``, each with a message of its own."""
    found: dict[Key, set[Any]] = {}
    for key, _, ours in of_forks():
        if not ours.required:
            found.setdefault(key, set()).add(ours.default)
    assert {key: values for key, values in found.items() if len(values) > 1} == {}


def test_the_jitter_of_yolos_labels_is_the_forks():
    default = float(schema()["AnnotatedDataParameter"]["yolo_data_jitter"].default)
    assert AnnotatedDataParam(yolo_data_type=1).jitter == default
    assert AnnotatedDataParam().jitter == 0


def test_pycaffe_shows_the_forks_own_also_where_the_specs_differ():
    shown = defaults()
    assert shown["UpsampleParameter", "scale"] == "2" and shown["InterpParameter", "zoom_factor"] == "1"
    assert shown["SolverParameter", "eval_type"] == "classification"
    assert ("NonMaximumSuppressionParameter", "top_k") not in shown
