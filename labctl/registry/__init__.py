"""Cards, and how the plugins that carry them are found. No torch."""
