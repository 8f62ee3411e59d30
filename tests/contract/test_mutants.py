"""The deliberate faults of the chaos suite still fit the code they are to break."""

import pytest

from embedded.processes import ROOT
from tests.chaos.mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_made(mutant: Mutant) -> None:
    for change in mutant.changes:
        source = (ROOT / change.path).read_text()
        assert source.count(change.old) == 1, change
        if change.path.endswith(".py"):
            compile(source.replace(change.old, change.new), change.path, "exec")
