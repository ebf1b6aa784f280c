"""What is measured of activations on the calibration dataset, and where it is kept."""
