"""Low rank on four nets: ranks and accuracy at given losses, and time against dense, PyTorch and Caffe.

    python benchmarks/lowrank.py select NET [--drop 2%]    choose ranks; accuracy on all test images; minutes to an hour
    python benchmarks/lowrank.py finetune NET --flops 0.25 train the factors of a cheaper plan
    python benchmarks/lowrank.py time NET [--caffe PYTHON] forward pass: batch 100 and batch 1, paired rounds
    python benchmarks/lowrank.py train NET                 a training step: time, and memory of saved data matrices

NET is one of lenet, cifar10_quick, cifar10_full, cifar10_vgg. Needs the full data sets in data/ (``minicaffe data get``)
and the weights in models/. Plans are kept in benchmarks/plans/NET.json, where ``time`` and ``train`` find them.
"""
