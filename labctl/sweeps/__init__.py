"""Sets of plans that differ in one or more fields."""
