"""The runs folder: paths, status, journal, locks. No torch."""
