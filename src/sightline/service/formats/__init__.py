"""One file per family of models: messages become token ids, and tokens become the answer's text."""
