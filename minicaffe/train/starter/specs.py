"""The specs of a first net: YAML texts with a comment at each choice, for somebody who will change them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from string import Template

TRAIN_BATCH = 32
STEM = {
    True: "kernel_size: 3, pad: 1",
    False: "kernel_size: 5, stride: 2, pad: 2",
}  # by whether pictures are small
SMALL = 40  # pictures whose shorter side is at most this are small


@dataclass(frozen=True)
class Plan:
    """What the specs depend on: ``side`` of the net's input, ``mean`` of each channel, ``root`` of the pictures."""

    name: str
    root: str
    classes: int
    trained: int
    validated: int
    side: int
    mean: tuple[float, ...]

    @property
    def is_grey(self) -> bool:
        """Whether the net has one channel in."""
        return len(self.mean) == 1

    @property
    def room(self) -> int:
        """By how many pixels a picture is moved at random in training."""
        return max(2, self.side // 8)

    @property
    def test_batch(self) -> int:
        """A batch size for validation: of 50 … 200 one with which the last batch is full, or nearly."""
        if self.validated <= 200:
            return self.validated
        return min(range(200, 49, -1), key=lambda size: -self.validated % size)

    @property
    def test_batches(self) -> int:
        """How many batches are all validation pictures."""
        return -(-self.validated // self.test_batch)

    @property
    def iterations(self) -> int:
        """How long to train: 60 epochs, but at least 400 batches, and at most 8,000."""
        return min(8000, max(400, round(60 * self.trained / TRAIN_BATCH / 100) * 100))


def side_for(median_side: int) -> int:
    """The side of the input of a net for pictures of this size: 32 for small ones, 64 for others."""
    return 32 if median_side <= SMALL else 64


NET = Template("""\
# 32 filters of $stem_words. BatchNorm and Scale keep the numbers in a range in
# which training is fast.
- name: conv1
  type: Convolution
  bottom: data
  convolution_param: {num_output: 32, $stem, bias_term: false, weight_filler: {type: msra}}
- {name: bn1, type: BatchNorm, top: conv1, batch_norm_param: {moving_average_fraction: 0.9}}
- {name: scale1, type: Scale, top: conv1, scale_param: {bias_term: true}}
- {name: relu1, type: ReLU, top: conv1}
- {name: pool1, type: Pooling, pooling_param: {pool: MAX, kernel_size: 2, stride: 2}}
# 64 filters of 3 × 3 pixels on half the size: each sees more of the picture.
- name: conv2
  type: Convolution
  convolution_param: {num_output: 64, kernel_size: 3, pad: 1, bias_term: false, weight_filler: {type: msra}}
- {name: bn2, type: BatchNorm, top: conv2, batch_norm_param: {moving_average_fraction: 0.9}}
- {name: scale2, type: Scale, top: conv2, scale_param: {bias_term: true}}
- {name: relu2, type: ReLU, top: conv2}
- {name: pool2, type: Pooling, pooling_param: {pool: MAX, kernel_size: 2, stride: 2}}
- name: conv3
  type: Convolution
  convolution_param: {num_output: 128, kernel_size: 3, pad: 1, bias_term: false, weight_filler: {type: msra}}
- {name: bn3, type: BatchNorm, top: conv3, batch_norm_param: {moving_average_fraction: 0.9}}
- {name: scale3, type: Scale, top: conv3, scale_param: {bias_term: true}}
- {name: relu3, type: ReLU, top: conv3}
# The mean of each of the 128 maps: whether something is there, wherever it is. Then a score for each class.
- {name: pool3, type: Pooling, pooling_param: {pool: AVE, global_pooling: true}}
- name: score
  type: InnerProduct
  inner_product_param: {num_output: $classes, weight_filler: {type: msra}}
""")

TRAIN = Template("""\
# A small net for $classes classes of $kind pictures: three convolutions, and at the end a score for each class.
name: $name
layer:
# train.txt and validation.txt list the pictures; classes.txt names the classes.
# mean_value: the mean of the training pictures ($order), which is subtracted. scale: the numbers are then
# from about -2 to 2. crop_size: whenever a picture is trained on, another part of it, moved by up to $room pixels.
# mirror: or its mirror image. Both make many pictures of each. mirror: true is for those whose left and right mean
# the same, not for letters, digits or signs.
- name: pictures
  type: ImageData
  top: [data, label]
  include: {phase: TRAIN}
  transform_param: {mean_value: $mean, scale: 0.0156, $moved, mirror: $mirror}
  image_data_param:
    source: train.txt
    root_folder: $root
    class_names: classes.txt
    batch_size: $train_batch
    shuffle: true
$reading
- name: pictures
  type: ImageData
  top: [data, label]
  include: {phase: TEST}
  transform_param: {mean_value: $mean, scale: 0.0156$centred}
  image_data_param:
    source: validation.txt
    root_folder: $root
    class_names: classes.txt
    batch_size: $test_batch
$reading
$net- name: loss
  type: SoftmaxWithLoss
  bottom: [score, label]
- name: accuracy
  type: Accuracy
  bottom: [score, label]
  include: {phase: TEST}
""")

DEPLOY = Template("""\
# The net of train.yaml for use: a picture in, the probability of each class out. How pictures are prepared, and
# the names of the classes, come with the weights.
name: $name
layer:
- name: data
  type: Input
  input_param: {shape: {dim: [1, $channels, $side, $side]}}
$net- name: prob
  type: Softmax
""")

SOLVER = Template("""\
# How train.yaml is trained. Weights go to solver_iter_<n>.npz beside this file, the log to solver.log.jsonl.
net: train.yaml
# Stochastic gradient descent that looks ahead along its momentum.
type: Nesterov
momentum: 0.9
# The learning rate falls to 0 in a straight line. If the loss does not fall, or becomes nan, begin with a tenth.
base_lr: 0.05
lr_policy: poly
power: 1
# Pulls weights towards 0, so that it is harder to learn single pictures by heart.
weight_decay: 0.001
# Batches of $train_batch: about $epochs times all training pictures. More may help, and take longer.
max_iter: $iterations
# The loss is shown as the mean of so many iterations.
display: $display
average_loss: $display
# All validation pictures: batches of $test_batch.
test_iter: $test_iter
test_interval: $test_interval
# Not before the first iteration: BatchNorm's statistics are zeros then, and the loss is so large that it makes all
# others look alike in the curves.
test_initialization: false
# The same random numbers at every start.
random_seed: 1
""")


def train_text(plan: Plan) -> str:
    """The net with its data, for training and validation."""
    return TRAIN.substitute(_words(plan))


def deploy_text(plan: Plan) -> str:
    """The net for use."""
    return DEPLOY.substitute(_words(plan))


def solver_text(plan: Plan) -> str:
    """How the net is trained."""
    return SOLVER.substitute(_words(plan))


def _words(plan: Plan) -> dict[str, object]:
    """What stands for each $word."""
    is_small = plan.side <= SMALL
    read = plan.side if is_small else plan.side + plan.room  # small ones are moved about in a border
    every = plan.iterations // 10
    words = {
        "name": _quoted(plan.name),
        "root": _quoted(plan.root),
        "classes": plan.classes,
        "kind": "grey" if plan.is_grey else "colour",
        "order": "grey" if plan.is_grey else "blue, green, red",
        "mean": [round(value, 1) for value in plan.mean],
        "mirror": "false" if plan.is_grey else "true",
        "channels": len(plan.mean),
        "side": plan.side,
        "room": plan.room // 2,
        "moved": f"pad: {plan.room // 2}, crop_size: {plan.side}" if is_small else f"crop_size: {plan.side}",
        "centred": "" if is_small else f", crop_size: {plan.side}",
        "reading": "\n".join(
            [
                f"    new_height: {read}",
                f"    new_width: {read}",
                *(["    is_color: false"] if plan.is_grey else []),
            ]
        ),
        "stem": STEM[is_small],
        "stem_words": "3 × 3 pixels"
        if is_small
        else "5 × 5 pixels, at every second pixel: a quarter of the work",
        "train_batch": TRAIN_BATCH,
        "test_batch": plan.test_batch,
        "iterations": plan.iterations,
        "epochs": round(plan.iterations * TRAIN_BATCH / plan.trained),
        "display": max(1, every // 2),
        "test_iter": plan.test_batches,
        "test_interval": every,
    }
    return {**words, "net": NET.substitute(words)}


def _quoted(text: str) -> str:
    """A text as YAML: JSON's form is one of YAML's."""
    return json.dumps(text, ensure_ascii=False)
