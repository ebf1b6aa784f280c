"""Stand-in for datasets/demo: pyproject.toml maps this package to that folder, so that a wheel carries its files here.

In a checkout this folder holds nothing else; `calib.demo.demo_folder` knows both places.
"""
