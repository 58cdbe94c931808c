"""What text and pictures come to in tokens: tokenize, detokenize, count."""
