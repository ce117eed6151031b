"""The page of a ranking."""
