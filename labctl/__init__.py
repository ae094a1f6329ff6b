"""labctl: one YAML recipe in, one honest table out."""

__version__ = "0.1.0"
