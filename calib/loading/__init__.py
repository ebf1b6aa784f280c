"""Read IR and ONNX files as normalized models, handle preprocessing and shapes, and write models to disk.

Everything that turns a file into the form of network that the rest works on belongs here. Finding layers and inserting
quantizers belong in ``graph``.
"""
