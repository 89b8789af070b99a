"""A solver that does what another one does and keeps what it asked and was told."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recording:
    solver: Any
    asked: list = field(default_factory=list)
    told: list = field(default_factory=list)

    def check(self, source, temperature):
        self.solver.check(source, temperature)

    def iterate(self, problem):
        steps = self.solver.iterate(problem)
        queries = next(steps)
        while True:
            self.asked.append(queries)
            answer = yield queries
            self.told.append(answer)
            try:
                queries = steps.send(answer)
            except StopIteration as end:
                return end.value
