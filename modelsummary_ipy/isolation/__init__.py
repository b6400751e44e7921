"""The shadow of a model, and everything that keeps a trace from touching what is the user's."""
