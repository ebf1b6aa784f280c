"""The flow of a calibration in a local page: models, data, baseline, INT8, live, result, compare, zoo.

Code that serves pages belongs here. Pages read what runs have stored, and actions start the processes that the command
line starts: ``calib.zoo.worker`` for runs, ``calib inspect`` and its like for questions. The server loads no OpenVINO.
"""
