"""The accuracy budget: what a drop is, which layers to revert first, and the search for the fastest plan within it.

Here belongs what decides by figures alone: numpy, scipy and the standard library. What builds, runs or times a model
does not: `search.search` takes these as functions and knows no OpenVINO.
"""
