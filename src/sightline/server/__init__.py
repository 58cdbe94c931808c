"""HTTP: the OpenAI dialect, its limits and its manners. What a chat means is the service's."""
