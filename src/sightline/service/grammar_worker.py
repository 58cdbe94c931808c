"""A disposable process that compiles grammars, to say what is wrong with them.

    python -m sightline.service.grammar_worker ADDRESS_BYTES

Reads a line of JSON with a list of grammars, writes a line with the compiler's complaint about
each, empty for none. Ends with its input.

Multiples within bounds may compile, and yet leave nothing to say: what has them is also begun.
"""

import json
import resource
import sys

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from sightline.core.grammar_limits import GRAMMAR_LIMITS

MAX_COMPLAINT = 500


def main() -> None:
    address_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (address_bytes, address_bytes))
    limits = LLParserLimits(**GRAMMAR_LIMITS)
    letters = LLTokenizer("byte")
    print("ready", flush=True)
    for line in sys.stdin:
        complaints = [_complaint(grammar, limits, letters) for grammar in json.loads(line)]
        print(json.dumps(complaints), flush=True)


def _complaint(grammar: str, limits: LLParserLimits, letters: LLTokenizer) -> str:
    complaint = LLMatcher.validate_grammar(grammar, limits=limits)
    if not complaint and '"multipleOf"' in grammar:
        matcher = LLMatcher(letters, grammar, log_level=0, limits=limits)
        if not matcher.is_error():
            matcher.compute_bitmask()
            complaint = matcher.get_error()
    return complaint[:MAX_COMPLAINT]


if __name__ == "__main__":
    main()
