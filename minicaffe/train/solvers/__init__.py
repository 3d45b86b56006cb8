"""The update rules, one file each. A new rule is a new file and its name in this list."""

from minicaffe.train.solvers import adadelta, adagrad, adam, nesterov, rmsprop, sgd
