"""The form of widgets that summarises a model again with other settings."""
