"""Chat completions as OpenAI defines them: the fields all the dialects come down to."""
