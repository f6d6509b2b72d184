"""The reductions once more, as a person would say them: a fold over events, and scenarios to hold it against."""
