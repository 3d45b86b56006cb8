"""Where batches come from: sources of images, their order, their transformation, and prefetching.

A *source* gives images by number (``sources/``); an *order* says which numbers make up batch k (``Order``); a
*transformer* turns them into a batch-last array (``DataTransformer``); ``ImageBatches`` combines the three into a
function of k, which a ``Prefetcher`` calls ahead of time. Everything random is a pure function of a seed and k, so
a run can continue from any batch, bit for bit.
"""
