"""The only place that reads and edits an ov.Model."""
