"""Write what a run found, for people and machines: text, JSON and one self-contained HTML page.

Code that turns the facts of ``calib.values`` into words, tables and charts belongs here; it measures and decides
nothing. The facts themselves come from ``engine``. Text from a model is escaped here, see ``escape``.
"""
