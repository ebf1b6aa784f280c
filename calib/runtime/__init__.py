"""Compile, run, time and ask the CPU plug-in what it really did."""
