"""Hostile requests for any server that speaks the OpenAI dialect, and what must hold after each.

python -m tests.abuse                              # a server of its own, with a fake engine
python -m tests.abuse http://host:8000 --model M --key K
"""
