"""Ollama's chat and generate, as a dialect of chat completions."""
