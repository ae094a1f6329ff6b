"""What an author writes: YAML, composed, validated into a `Recipe`. No torch."""
