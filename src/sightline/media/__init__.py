"""From an image reference in a request to pixels in the size the model wants.

    source -> (fetch | base64 | file) -> signature -> size from the header -> decode worker -> cache

The front never parses pixels: `decoder` gives the bytes to a disposable child process. The only
connections opened on behalf of a request are those of `fetch`.
"""
