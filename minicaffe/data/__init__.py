"""Where batches come from: sources of images, their order, their transformation, and prefetching.

A *source* gives images by number (``open_source``, ``open_images``); an *order* says which numbers make up
batch k (``Order``); a *transformer* makes them into a batch-last array (``DataTransformer``); ``ImageBatches``
puts the three together into a function of k, which a ``Prefetcher`` calls ahead of time. Everything random is
a pure function of a seed and k, so a run can go on from any batch, bit for bit.
"""
