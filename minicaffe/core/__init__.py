"""What a net is: blobs, fillers, layers, the graph that connects them, and the net. Read in this order."""
