"""The accuracy budget: what a drop is, which layers to revert first, and the search that keeps the promise.

numpy, scipy and the standard library only. `search.search` takes the evaluation as a function and knows no OpenVINO.
"""
