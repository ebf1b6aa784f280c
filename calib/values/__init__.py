"""What travels between the stages: plans, summaries and the facts of a report, frozen and serializable.

Here belong values with their checks and conversions, on numpy and pydantic alone. Nothing here computes a result, an
SQNR from energies aside, and nothing knows OpenVINO.
"""
