"""A disposable process that compiles grammars, to say what is wrong with them.

    python -m sightline.service.grammar_worker ADDRESS_BYTES

Reads a line of JSON with a list of grammars, writes a line with the compiler's complaint about
each, empty for none. Ends with its input.
"""

import json
import resource
import sys

from llguidance import LLMatcher, LLParserLimits

from sightline.core.grammar_limits import GRAMMAR_LIMITS

MAX_COMPLAINT = 500


def main() -> None:
    address_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (address_bytes, address_bytes))
    limits = LLParserLimits(**GRAMMAR_LIMITS)
    print("ready", flush=True)
    for line in sys.stdin:
        complaints = [
            LLMatcher.validate_grammar(grammar, limits=limits)[:MAX_COMPLAINT]
            for grammar in json.loads(line)
        ]
        print(json.dumps(complaints), flush=True)


if __name__ == "__main__":
    main()
