"""Files of other people that hold data in text: YAML and JSON as plain values, XML as elements.

What belongs here reads untrusted text and refuses whatever could run, expand or reach outside; what the values mean is
known to those who ask. Nothing here imports numpy.
"""
