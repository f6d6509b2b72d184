"""The declaration language of tables, and the dataset on disk."""
