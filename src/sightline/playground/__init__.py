"""The pages that a person sees: plain files, and how they are handed to the server."""
