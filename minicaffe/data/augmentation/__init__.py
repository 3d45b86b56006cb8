"""What Caffe's forks do to images, and to the boxes on them, before a net sees them.

One step of SSD's Caffe in each file, and all of DetectNet's in another.
"""
