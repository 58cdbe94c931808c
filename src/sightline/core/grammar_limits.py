"""How much work a grammar may cause: the same where it is judged and where it is used.

In llguidance's units. A mask takes at most about 30 ms with these, a compilation about 150 ms.
"""

from typing import TypedDict


class GrammarLimits(TypedDict):
    max_items_in_row: int
    initial_lexer_fuel: int
    step_lexer_fuel: int
    step_max_items: int
    max_lexer_states: int
    max_grammar_size: int
    verbose_errors: bool


GRAMMAR_LIMITS = GrammarLimits(
    max_items_in_row=20_000,
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=150_000,
    step_max_items=100_000,
    max_lexer_states=100_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)
