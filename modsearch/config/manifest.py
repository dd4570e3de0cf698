"""What a study was made with."""

from modsearch.config.base import Frozen
from modsearch.config.data import CorpusFacts, Mixing
from modsearch.config.design import Design
from modsearch.config.model import ModelConfig
from modsearch.config.priors import WarmStart
from modsearch.config.reading import Tree
from modsearch.config.runtime import EngineName, Runtime
from modsearch.config.units import Unit


class Growth(Frozen):
    """What a study was given, or lost, after its first trials had results."""

    added: tuple[str, ...]
    """In words."""
    arms: tuple[str, ...] = ()
    """Those among it."""
    budgets: tuple[float, ...] = ()
    """Those of confirm among it."""
    removed: tuple[str, ...] = ()
    """Arms that went out of the space."""
    trials: int
    """Results that there were by then."""
    looks: dict[float, int] = {}
    """Runs of an arm at the last look of confirm by then, by budget."""
    day: str
    """In UTC."""


class Manifest(Frozen):
    """What a study was made with, and what of that its driver has noted since."""

    name: str
    seed: int
    arms: dict[str, str | None]
    """Arms in order; a control names the arm that it is the control of. Those that went out of the
    space stand last."""
    runtime: Runtime
    corpus: CorpusFacts
    """Of the tokens; where the study has several tokenizers, of those of the first."""
    corpora: dict[int, CorpusFacts] = {}
    """Of each `model.vocab_size`, where the study has a tokenizer for each; else empty."""
    unit: Unit = "token"
    """What its losses are counted over: `byte` where it has several tokenizers."""
    code: str
    """Hash of the package's sources."""
    revision: str
    """Git revision, or `unknown`."""
    versions: dict[str, str]
    machine: dict[str, str]
    command: str
    started: str | None = None
    """Day of the first run, in UTC; None in a study from before this was noted."""
    engine: EngineName | None = None
    """What executed the trials of the first run; None where that was not noted."""
    ledger: str | None = None
    """Where the ledger is, without credentials; None: `ledger.db` in the study directory."""
    ledger_remade: bool = False
    """The first one was lost: this one does not know all trials that were handed out."""
    explored: dict[str, int] = {}
    """Results that each cell which a sampler searched had when its search was over; by stage,
    arm, budget and the trials that it was asked for."""
    confirm: Design | None = None
    """How confirm decides, and what was chosen for it; None without confirm, or in a study
    from before this was noted."""
    grown: tuple[Growth, ...] = ()
    """What came later than the first trials, in order."""
    removed: dict[str, Tree] = {}
    """Arms that went out of the space, as it stated them: their trials stay."""
    key: str | None = None
    """Its name where studies share a database or a storage; None: as its space says."""
    warm: tuple[WarmStart, ...] = ()
    """Studies whose trials explore's sampler was told of before its first one; `prior.json` has
    what was taken."""
    mixed: list[str] = []
    """Other code, plugins or torch versions that this study was resumed with."""
    plugins: dict[str, str] = {}
    """Digest of each plugin file, by the name of its copy in `plugins/`."""
    packages: dict[str, str] = {}
    """Version and hash of the sources of each package whose components the space names."""

    @property
    def asked(self) -> dict[str, str | None]:
        """Arms that are in the space."""
        return {arm: base for arm, base in self.arms.items() if arm not in self.removed}

    def facts_of(self, model: ModelConfig) -> CorpusFacts:
        """Of the tokens of a model's tokenizer."""
        return self.corpora.get(model.vocab_size, self.corpus)

    def bigram_entropy(self, model: ModelConfig) -> float:
        """What the loss of a model must beat to say anything, in the study's unit."""
        facts = self.facts_of(model)
        return facts.bigram_entropy / facts.size(self.unit, "validation")

    @property
    def mixing(self) -> Mixing:
        """What sources of its corpus have of their own; tokens that are bytes have no BPE."""
        all_of_them = [self.corpus, *self.corpora.values()]
        return Mixing(
            by_source=self.corpus.by_source,
            by_weight=any(facts.by_weight for facts in all_of_them),
        )

    @property
    def fingerprints(self) -> list[str]:
        """Of all its tokens."""
        several = [facts.fingerprint for _, facts in sorted(self.corpora.items())]
        return several or [self.corpus.fingerprint]
