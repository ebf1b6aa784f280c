"""Accuracy Checker's configurations: how Open Model Zoo says that a model's accuracy is measured.

``calib.accuracy_check.build.build`` turns an entry of an ``accuracy-check.yml`` into a reader, preprocessing,
annotations, an adapter, postprocessing and a metric, each looked up in the table of its module, from name to builder.
What is not in the tables is refused by name, all of it at once.
What is computed here follows Accuracy Checker to the last pixel, its
conventions included; what is calib's own belongs in ``samples``, ``outputs`` and ``metrics``. Nothing here imports
OpenVINO.
"""
