"""What SSD's Caffe does to images, and to the boxes on them, before a net sees them; one step in each file."""
