"""Values passed between the stages: plans, summaries and the facts of a report, frozen and serializable.

Values with their checks and conversions belong here, on numpy and pydantic alone. Apart from an SQNR of energies,
nothing here computes a result, and nothing knows OpenVINO.
"""
