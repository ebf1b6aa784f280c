"""Compile, run and time models, and look up what the CPU plug-in executed."""
