"""What results of a suite are of, so that those which are there already need not be made again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modsearch.config.data import DataConfig
from modsearch.config.evaluations import of_suite
from modsearch.config.samples import dtype_of, facts_of
from modsearch.evaluation.local_data import LocalData
from modsearch.evaluation.suites import Suite, load_suite
from modsearch.evaluation.texts import whole_texts

Part = Literal["validation", "test"]


@dataclass(frozen=True)
class Asked:
    """A suite, and the text that its documents are made of."""

    suite: Suite
    file: Path
    identity: str
    whole_text: str | None
    """Hash of the files that are scored as a whole; None where there are none."""

    @classmethod
    def of(cls, suite: str | Path, data: DataConfig, local: LocalData | None = None) -> "Asked":
        """A suite on a text.

        Raises:
            ConfigError: the suite is unknown or wrong.
            DataError: a file can't be read.
        """
        plan, path = load_suite(suite)
        text = whole_texts(data).fingerprint if plan.needs_texts else None
        return cls(plan, path, plan.identity(path.parent, local), text)

    def text(self, tokens: str) -> str | None:
        """What results of a model say that they were made of; `tokens` is the fingerprint of
        those that it was trained with."""
        return tokens if self.suite.needs_corpus else self.whole_text

    def of_this(self, evaluations: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """A trial's results of this suite, if there are any, or else of another one that has its
        name."""
        return of_suite(evaluations, self.identity, self.suite.name)

    def is_answered(
        self, results: Mapping[str, Any], tokens: str, part: Part = "test", dtype: str = "fp32"
    ) -> bool:
        """Whether results are of this suite as it is now, of this text, and in this precision."""
        config = results.get("config")
        if not isinstance(config, dict) or not facts_of(results):
            return False
        found = (config.get("suite_hash"), config.get("corpus"), config.get("part"))
        return found == (self.identity, self.text(tokens), part) and dtype_of(results) == dtype
