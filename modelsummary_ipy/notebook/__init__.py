"""How people reach a summary in a notebook: the magic, its line, completion, cells, the form."""
