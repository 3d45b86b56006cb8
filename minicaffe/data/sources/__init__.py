"""Where images come from: a file for each format. ``backends`` tells apart the formats that a Data layer reads."""
