"""What a run found, for people and machines: text, JSON, and one self-contained HTML page.

What belongs here turns the facts of ``calib.values.facts`` into words, tables and charts, and measures and decides
nothing. Where the facts come from belongs in ``engine``. Text from a model is escaped here, see ``escape``.
"""
