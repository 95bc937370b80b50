"""Thin endpoints: they parse, hand down and encode."""
