"""Making a trained net cheaper: ranks for its layers, factors fitted to data, and what that costs in accuracy.

``batches.py`` and ``moments.py`` collect what goes through the net's layers; ``fitting.py`` finds the factors;
``shrunk.py`` puts them into a net; ``selection.py`` chooses ranks; ``sweep.py`` measures accuracy against rank.
``suitable.py`` says which layers can be of low rank; ``rules.py`` gives them ranks without any data.
"""
