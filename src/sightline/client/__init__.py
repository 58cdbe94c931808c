"""A small client of the OpenAI-compatible API, as the command line uses it.

`chat.Client` is the client; `wire` has what it sends and reads, `errors` what can go wrong.
Nothing is imported here, because the HTTP library is slow to load and help must be instant.
"""
