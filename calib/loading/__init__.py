"""Files in, a normalized model out: IR and ONNX, preprocessing, shapes, and what is written back to disk.

Here belongs what turns a file into the one form of network that the rest works on. Finding layers and inserting
quantizers belong in ``graph``.
"""
