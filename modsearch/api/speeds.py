"""How fast a study's winners are, measured apart from the study."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from modsearch.api.components import Files, loaded_plugins
from modsearch.api.targets import corpus_of, moved
from modsearch.config.arguments import check_count, check_path, check_seconds
from modsearch.config.speeds import Speeds
from modsearch.errors import StudyError

if TYPE_CHECKING:
    from os import PathLike

    from modsearch.analysis.compare import Confirmed
    from modsearch.store.directory import StudyDirectory
    from modsearch.training.speed import Winner

MOST_ROUNDS = 1000
MOST_SECONDS = 3600.0


def time_winners(
    study: "str | PathLike[str]",
    *,
    rounds: int = 9,
    seconds: float = 0.5,
    corpus: "str | PathLike[str] | None" = None,
    plugins: Files = (),
    progress: Callable[[str], None] | None = None,
) -> Speeds:
    """Time training steps and decoding of every confirmed arm, and write `speeds.json` into the
    study; what it held before is replaced. For a quiet machine of the kind that the study ran on.

    Training steps have the study's own batch, threads and precision. Decoding has a key-value
    cache and the trained weights of the run whose causal routing load is nearest to the arm's
    mean; where weights were not kept nothing is decoded. The text need not be split as the study
    had it, nor be the same: that is noted.

    Args:
        study: its directory, or what `open_study` answered with.
        rounds: turns of each arm; ratios are taken round by round.
        seconds: of a turn, about.
        corpus: the study's text at another place.
        plugins: the plugin files that it was made with.
        progress: is given a line for each round.

    Raises:
        ModsearchError: nothing is confirmed, a search runs on it, or its device, text or plugins
            are not here.
    """
    rounds = check_count("rounds", rounds, 2, MOST_ROUNDS)
    seconds = check_seconds("seconds", seconds, MOST_SECONDS)
    root = check_path("study", study)
    from modsearch.analysis.claims import study_claims
    from modsearch.store.directory import StudyDirectory
    from modsearch.store.lock import refuse_second

    directory = StudyDirectory(root)
    manifest = directory.manifest()
    refuse_second(root)  # a search beside it would be part of what is timed
    confirmed = study_claims(manifest, directory.records()).confirmed
    if not confirmed:
        raise StudyError(
            f"{root} has no confirmed trials to time\n"
            f"its search is not that far, or its space has no `confirm`"
        )
    loaded = loaded_plugins(plugins)
    from modsearch.api.targets import check_made_with
    from modsearch.data.corpus import Corpora, load_corpus
    from modsearch.training.speed import measure

    check_made_with(manifest.plugins, loaded, [each.model for each in confirmed], root)
    data = confirmed[0].records[0].candidate.data
    place = None if corpus is None else str(check_path("corpus", corpus))
    if (elsewhere := corpus_of(place)) is not None:
        data = moved(data, elsewhere)
    models = {each.model.vocab_size: each.model for each in confirmed}
    facts = {size: manifest.facts_of(model) for size, model in models.items()}
    tokens = {size: load_corpus(data, size, mixing=manifest.mixing) for size in facts}
    same = all(tokens[size].facts.fingerprint == each.fingerprint for size, each in facts.items())
    found = measure(
        manifest.name,
        [_winner(directory, each) for each in confirmed],
        manifest.runtime,
        Corpora(tokens),
        rounds=rounds,
        seconds=seconds,
        told=progress or _untold,
    )
    found = found.model_copy(update={"same_text": same})
    directory.write_speeds(found)
    return found


def _winner(directory: "StudyDirectory", each: "Confirmed") -> "Winner":
    """Of the seeds of the size that stands for an arm the one whose causal load is nearest to
    their mean, of those with weights where there are any."""
    from modsearch.training.speed import Winner

    weights = {
        record.hash: folder
        for record in each.records
        if (
            (folder := directory.trial(record.hash) / "checkpoint") / "model.safetensors"
        ).is_file()
    }
    rows = [record for record in each.records if record.hash in weights] or each.records
    loads = {
        record.hash: record.scores.realised_forward_flops
        for record in rows
        if record.scores is not None
    }
    mean = each.forward_flops
    nearest = min(rows, key=lambda record: (abs(loads[record.hash] - mean), record.hash))
    return Winner(nearest, weights.get(nearest.hash))


def _untold(line: str) -> None:
    """Progress that nobody asked for."""
