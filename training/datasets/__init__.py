"""Labelled faces, and how windows of five frames are made of them."""

# A window is uint8 [n, FRAMES, SIZE, SIZE] everywhere, oldest frame first.
FRAMES = 5
SIZE = 48
