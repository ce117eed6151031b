"""A study in pictures and words: its figure and its page."""
