"""The OpenAPI document: every endpoint with its requests, answers, errors and examples."""
