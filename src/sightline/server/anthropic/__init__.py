"""Anthropic's messages, as a dialect of chat completions."""
