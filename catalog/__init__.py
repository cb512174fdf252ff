"""The catalog of assessment criteria, as data."""
