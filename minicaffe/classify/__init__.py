"""Classifying images with a trained net: what pycaffe's Classifier and Transformer do."""
