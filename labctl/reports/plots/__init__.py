"""Plots of a table's rows: one style, as PNG and SVG, with the numbers that they show."""
