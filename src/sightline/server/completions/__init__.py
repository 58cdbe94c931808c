"""The older text completions endpoint."""
