"""Everything a run found, for people and machines: text, JSON, one self-contained HTML page."""
