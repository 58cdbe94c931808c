"""What a chat means: from messages to a prompt, and from tokens to an answer."""
