"""Names of data by which a reader, and a manifest's reader, tells real faces from drawn ones. No torch."""

FER2013 = "FER2013"
RENDERED = "rendered data, synthetic"
