"""Colours that people tell apart whatever they see of colours (Okabe and Ito 2008), on light and dark ground."""

GOOD = "#0072B2"
WARN = "#E69F00"
BAD = "#D55E00"
PLAIN = "#999999"

SERIES = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")
"""In the order in which series take them; who comes after the last has dashes, and then dots."""
