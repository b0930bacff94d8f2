"""The rules of the pages' commands: each is for a command, and gives one that parses."""

import pytest

from scripts.pages import PAGES
from tests.pages.rules import RULES, rule_of
from tests.pages.run import changed, steps_of
from tests.test_commands import commands, parse

STEPS = [step for page in PAGES for step in steps_of(page)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.text)
def test_each_rule_is_the_first_for_some_command(rule):
    matches = [step.text for step in STEPS if rule_of(step.text) is rule]
    assert matches and all(rule.old in text for text in matches)


def test_each_changed_command_parses():
    shown = [commands(changed(step.text, rule_of(step.text))) for step in STEPS]
    shown = [words for one in shown for words in one]
    assert len(shown) > 60
    for words in shown:
        parse(words)
