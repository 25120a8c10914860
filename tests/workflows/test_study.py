"""`assay study`: cells like trainings by themselves, fractions within each other, resumption, selection, bad input."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.config import build
from assay.feedback import pairs, read
from assay.feedback.changes import with_pairs
from assay.feedback.splitting import nested_shares
from assay.scorers import create_reward_model
from assay.workflows import study_rounds, study_verb
from assay.workflows.data import Shares
from assay.workflows.fitting import fit
from assay.workflows.judging import scores_on
from assay.workflows.options import model_options, resolved
from assay.workflows.study_bench import open_bench
from assay.workflows.study_methods import METHODS, methods_of
from assay.workflows.study_rounds import evolve_on_features
from assay.workflows.study_settings import StudySettings
from assay.workflows.study_verb import best_of, epochs_spent
from tests.workflows.conftest import Cli

FEW = ["--seeds", 2, "--epochs", 3, "--resamples", 100, "--calibration-folds", 2]


def words_for(data: Path, backbone: Path, *more: Any, out: str = "study") -> list[Any]:
    """Return a command; what is not said otherwise is small."""
    usual: dict[str, list[Any]] = {"--fractions": [0.3, 1.0], "--workers": [1]}
    rest = [word for flag, values in usual.items() if flag not in more for word in (flag, *values)]
    return ["study", data, "--out", out, "--backbone", backbone, *FEW, *rest, *more]


def results(folder: str = "study") -> dict[str, Any]:
    return dict(json.loads(Path(folder, "results.json").read_text(encoding="utf-8")))


def cell(name: str, folder: str = "study") -> dict[str, Any]:
    return dict(json.loads(gzip.decompress(Path(folder, "cells", f"{name}.json.gz").read_bytes())))


def margins(name: str, folder: str = "study") -> list[list[float]]:
    return [run["margins"] for run in cell(name, folder)["runs"]]


def settings_of(data: Path, backbone: Path, **more: Any) -> StudySettings:
    values = {"data": str(data), "out": "s", "backbone": str(backbone), "seeds": 2, "epochs": 3, **more}
    return build(StudySettings, values | {"calibration_folds": 2})


def test_a_study(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    said = cli(*words_for(many_pairs, tiny_encoder, "--methods", "bt", "mlp", "prototypes"))
    assert said.code == 0, said.err
    found = results()
    assert list(found["methods"]) == ["bt", "mlp", "prototypes"] and found["test_judgements"] == 52
    assert [row["fraction"] for row in found["methods"]["bt"]] == [0.3, 1.0]
    assert found["methods"]["bt"][1]["labels"] == 208 and "accuracy_over_baseline" not in found["methods"]["bt"][0]
    ahead = found["methods"]["mlp"][0]["accuracy_over_baseline"]
    lies_above = ahead["simultaneous"][0] > 0
    assert (ahead["verdict"] == "holds") == lies_above and ahead["ci95"][0] <= ahead["value"] <= ahead["ci95"][1]
    assert found["recommendation"][0] in said.out and "With 208 judgements" in said.out
    page = Path("study/study.md").read_text(encoding="utf-8")
    assert "| mlp |" in page and found["recommendation"][0] in page
    assert Path("study/efficiency.svg").read_text(encoding="utf-8").count("<svg") == 1
    assert not list(Path("study").glob("checkpoints"))
    again = cli(*words_for(many_pairs, tiny_encoder))
    assert again.code == 2 and "exists already" in again.err


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def graded(pairs_file: Path) -> Path:
    """Write the same pairs with grades."""
    grades = ({"score_chosen": 6.0 + n % 4, "score_rejected": 5.0} for n in range(1000))
    rows = [row | more for row, more in zip(rows_of(pairs_file), grades, strict=False)]
    Path("graded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path("graded.jsonl")


@pytest.mark.parametrize("method", ["bt", "ensemble", "gpm", "swept", "crossed"])
def test_a_cell_is_the_training_by_itself(method: str, tiny_encoder: Path, many_pairs: Path, tmp_path: Path) -> None:
    from assay.workflows.study_cells import run_cell

    Path("own.yaml").write_text("swept: {target: {kind: mmpo, sweep: [0.3, 1.5]}}\ncrossed: {cross_prompt: 0.2}\n")
    data = graded(many_pairs)
    settings = settings_of(data, tiny_encoder, methods=[method], folds=2, most_steps=20, define="own.yaml")
    bench = open_bench(settings)
    chosen = methods_of(settings)[-1]
    found = run_cell(bench, chosen, 0.5, range(1, 2), settings.most_steps)["runs"][0]
    assert found["epochs"] == 3
    own = chosen.settings.model_copy(update={"seed": 1})
    learned, tested = (bench.data.select(rows) for rows in (bench.learned(1, 0.5), bench.tested(1)))
    alone = fit(resolved(own, 0), Shares(learned, None, None), tmp_path, create_reward_model(model_options(own, 1)))
    expected = scores_on(alone.model, tested).margins(pairs(tested))
    expected = expected.mean(axis=1) if expected.ndim == 2 else expected
    np.testing.assert_allclose(found["margins"], expected, atol=2e-4)
    assert np.ptp(expected) > 0.01
    assert alone.calibration is not None and found["nll"] == pytest.approx(alone.calibration.nll_after, abs=1e-5)


def test_methods_that_train_the_backbone(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    Path("own.yaml").write_text(
        "tuned: {freeze_backbone: false, epochs: 1}\n"
        "low-rank:\n  freeze_backbone: false\n  lora: {rank: 2}\n  epochs: 1\n"
    )
    words = words_for(many_pairs, tiny_encoder, "--define", "own.yaml", "--methods", "tuned", "low-rank")
    said = cli(*[word for word in words if word != 0.3])
    assert said.code == 0, said.err
    assert list(results()["methods"]) == ["bt", "tuned", "low-rank"]
    assert np.ptp(margins("tuned.1")) > 0 and margins("tuned.1") != margins("low-rank.1")


def test_seeds_may_be_tested_on_parts(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    said = cli(*words_for(many_pairs, tiny_encoder, "--methods", "mlp", "--folds", 2))
    assert said.code == 0, said.err
    assert results()["test_judgements"] == 260
    assert sum(map(len, margins("bt.1"))) == 260
    # so that every judgement that is counted was tested, as often as any other
    said = cli(*words_for(many_pairs, tiny_encoder, "--folds", 5, out="other"))
    assert said.code == 2 and "a multiple of --folds 5" in said.err


@pytest.mark.parametrize("folds", [0, 2])
def test_weak_labels_are_no_test(cli: Cli, tiny_encoder: Path, many_pairs: Path, folds: int) -> None:
    rows = [row | {"prompt": f"{row['prompt']} {number}"} for number, row in enumerate(rows_of(many_pairs))]
    Path("plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read("plain.jsonl")
    view = pairs(data)
    with_pairs(data, replace(view, source=np.where(view.row % 5 > 0, "weak", "human"))).to_parquet("mixed.parquet")
    settings = settings_of(Path("mixed.parquet"), tiny_encoder, folds=folds)
    bench = open_bench(settings)
    for seed in range(2):
        tested, learned = (bench.data.select(rows) for rows in (bench.tested(seed), bench.learned(seed, 1.0)))
        assert set(pairs(tested).source) == {"human"} and "weak" in set(pairs(learned).source)
        assert not set(tested["split_group"]) & set(learned["split_group"])
    said = cli(*words_for(Path("mixed.parquet"), tiny_encoder, "--methods", "mlp", "--folds", folds))
    assert said.code == 0, said.err
    assert results()["test_judgements"] == (52 if folds else 10)


@pytest.mark.slow
def test_several_processes_find_the_same(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    for workers, out in ((1, "one"), (2, "two")):
        words = words_for(many_pairs, tiny_encoder, "--methods", "mlp", "--workers", workers, out=out)
        said = cli(*words)
        assert said.code == 0, said.err
    for name in ("bt.0.3", "bt.1", "mlp.0.3", "mlp.1"):
        assert margins(name, "one") == margins(name, "two")


def test_a_killed_process_is_no_riddle(
    cli: Cli, tiny_encoder: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed:
        """A pool whose processes are killed as soon as they begin."""

        def __init__(self, *_: Any, **__: Any) -> None: ...

        def __enter__(self) -> Killed:
            return self

        def __exit__(self, *_: Any) -> None: ...

        def submit(self, *_: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool("killed"))
            return future

    monkeypatch.setattr(study_verb, "ProcessPoolExecutor", Killed)
    said = cli(*words_for(many_pairs, tiny_encoder, "--methods", "bt", "--workers", 2))
    assert said.code == 2 and "ended from outside" in said.err and "--workers 1 --resume" in said.err


def test_an_interrupted_study_goes_on(
    cli: Cli, tiny_encoder: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_for(many_pairs, tiny_encoder, "--methods", "bt", "mlp")
    more = words_for(many_pairs, tiny_encoder, "--methods", "bt", "mlp", "bt_normalised", "--resume")
    former = study_verb.run_cell
    ran: list[str] = []

    def stop_after_two(*args: Any, **options: Any) -> Any:
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(args[1].name)
        return former(*args, **options)

    monkeypatch.setattr(study_verb, "run_cell", stop_after_two)
    said = cli(*words)
    assert said.code == 130 and "--resume goes on from there" in said.err and not Path("study").exists()
    refused = cli(*words)
    assert refused.code == 2 and "2 cells" in refused.err and "--resume" in refused.err
    other = Path("other.jsonl")
    other.write_text("".join(many_pairs.read_text().splitlines(keepends=True)[:200]))
    refused = cli("study", other, *words[2:], "--resume")
    assert refused.code == 2 and "differs from this one in: judgements" in refused.err
    refused = cli(*words, "--resume", "--most-steps", 5)
    assert refused.code == 2 and "differs from this one in: most_steps" in refused.err
    kept = {path.name: path.read_bytes() for path in Path("study.partial/cells").iterdir()}
    monkeypatch.setattr(study_verb, "run_cell", former)
    Path("own.yaml").write_text("mlp: {head: {kind: mlp, hidden: 7}}\n")
    refused = cli(*words, "--resume", "--define", "own.yaml")
    assert refused.code == 2 and "another method by the name of mlp" in refused.err
    # a method may be added on the way
    said = cli(*more)
    assert said.code == 0 and "2 of 6 cells were finished before" in said.err, said.err
    assert {name: Path("study/cells", name).read_bytes() for name in kept} == kept
    assert list(results()["methods"]) == ["bt", "mlp", "bt_normalised"]


def test_nothing_is_left_where_no_cell_was_finished(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    Path("own.yaml").write_text("graded: {target: {kind: mmpo}}\n")
    words = words_for(many_pairs, tiny_encoder, "--define", "own.yaml", "--baseline", "graded")
    said = cli(*words)
    assert said.code == 2 and "nothing says how much better" in said.err and "--resume" not in said.err
    assert not Path("study").exists() and not Path("study.partial").exists()


def test_a_damaged_cell_is_named(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    words = words_for(many_pairs, tiny_encoder, "--methods", "bt")
    assert cli(*words).code == 0
    shutil.move("study", "study.partial")
    Path("study.partial/cells/bt.1.json.gz").write_bytes(b"torn")
    said = cli(*words, "--resume")
    assert said.code == 2 and "a finished cell is damaged" in said.err and "bt.1.json.gz" in said.err


@pytest.mark.slow
def test_selection_after_one_epoch(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    methods = ["--methods", "bt", "mlp", "bt_normalised", "prototypes"]
    assert cli(*words_for(many_pairs, tiny_encoder, *methods)).code == 0
    said = cli(*words_for(many_pairs, tiny_encoder, *methods, "--keep", 1, out="short"))
    assert said.code == 0, said.err
    saved = results("short")["one_epoch_selection"]
    finished = {path.name for path in Path("short/cells").glob("*.rest.json.gz")}
    assert all(f"bt.{fraction}.rest.json.gz" in finished for fraction in ("0.3", "1")) and len(finished) < 8
    # 4 methods, 2 fractions, 2 seeds, 3 epochs; of those that were not kept, one
    assert saved["exhaustive"] == 48 and saved["epochs"] == 3 * 2 * len(finished) + 2 * (8 - len(finished))
    assert f"{saved['epochs']} epochs in place of 48" in said.err
    # stopped after an epoch and gone on with, a training ends where it ends otherwise
    for name in finished:
        assert margins(name.removesuffix(".json.gz"), "short") == margins(name.removesuffix(".rest.json.gz"))
    # the baseline, and the best of the others after one epoch, went on
    assert len(finished) == 4
    for fraction in ("0.3", "1"):
        names = [path.name for path in Path("short/cells").glob(f"*.{fraction}.first.json.gz")]
        first = [cell(name.removesuffix(".json.gz"), "short") for name in names]
        nll = {each["method"]: np.mean([run["nll"] for run in each["runs"]]) for each in first}
        del nll["bt"]
        assert len(nll) == 3 and f"{min(nll, key=lambda name: nll[name])}.{fraction}.rest.json.gz" in finished


def test_rounds_of_self_labels(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    Path("own.yaml").write_text("sure: {evolve: {soft: true, rule: two, gap: 0.05, rounds: 2}, head: mlp}\n")
    said = cli(*words_for(many_pairs, tiny_encoder, "--methods", "ser", "sure", "--define", "own.yaml"))
    assert said.code == 0, said.err
    assert list(results()["methods"]) == ["bt", "ser", "sure"]
    runs = cell("sure.0.3")["runs"]
    assert all(0 < run["self_labels"] <= 150 and run["round"] <= 2 for run in runs if run["round"]), runs
    # with all labels there is nothing left to label
    assert all(run["self_labels"] == 0 for run in cell("ser.1")["runs"])


def test_no_hidden_verdict_reaches_the_rounds(
    tiny_encoder: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned_from: list[list[np.ndarray]] = []
    former = study_rounds.fit_on

    def counted(settings: Any, whole: Any, given: Any, *args: Any, **more: Any) -> Any:
        learned_from.append([given.row, given.p, given.m, given.w])
        return former(settings, whole, given, *args, **more)

    monkeypatch.setattr(study_rounds, "fit_on", counted)
    settings = settings_of(many_pairs, tiny_encoder, methods=["ser"])
    bench = open_bench(settings)
    method = methods_of(settings)[-1]
    assert method.rounds is not None
    own = method.settings
    whole = bench.vectors_for(own, bench.model_for(own))
    known, rest = bench.learned(0, 0.3), np.setdiff1d(bench.learned(0, 1.0), bench.learned(0, 0.3))
    view = whole.records.pairs
    hidden = np.isin(view.row, rest)
    rounds = method.rounds.model_copy(update={"rule": "two", "gap": 0.02})
    found = []
    for p in (view.p, np.where(hidden, 1 - view.p, view.p)):
        given = replace(view, p=p, w=np.where(hidden & (p > 0.5), 2.0, view.w))
        told = replace(whole, records=replace(whole.records, pairs=given))
        model = bench.model_for(own)
        found.append(evolve_on_features(rounds, own, told, model, known, rest, view, 200))
    first, second = learned_from[: len(learned_from) // 2], learned_from[len(learned_from) // 2 :]
    assert len(first[1][0]) > len(first[0][0]), "there must be a round that learned from self-labels"
    for one, other in zip(first, second, strict=True):
        assert all(map(np.array_equal, one, other))
    assert np.array_equal(found[0].margins, found[1].margins) and found[0].labels == found[1].labels


def test_what_selection_costs() -> None:
    random = np.random.default_rng(0)
    after_one = {f"m{n}": float(loss) for n, loss in enumerate(random.random(100))}
    kept = best_of(after_one, 5)
    assert len(kept) == 5 and max(after_one[name] for name in kept) < min(after_one[n] for n in after_one.keys() - kept)
    epochs = {name: [20] for name in after_one}
    assert epochs_spent(epochs, kept) == (195, 2000)
    assert best_of(after_one, 100) == after_one.keys() and epochs_spent(epochs, set(after_one)) == (2000, 2000)


def test_fractions_lie_within_each_other(many_pairs: Path) -> None:
    data = read(str(many_pairs))
    shares = [0.05, 0.1, 0.2, 0.5, 1.0]
    for seed in range(3):
        chosen = [set(rows.tolist()) for rows in nested_shares(data, shares, seed)]
        assert all(small < large for small, large in itertools.pairwise(chosen))
        for share, rows in zip(shares, chosen, strict=True):
            taken = data.select(sorted(rows))
            assert len(pairs(taken)) == pytest.approx(share * 260, abs=2)
            left = data.select(sorted(set(range(len(data))) - rows))
            assert not set(taken["split_group"]) & set(left["split_group"])
    first, second = (nested_shares(data, [0.1], seed)[0].tolist() for seed in (0, 1))
    assert first != second


def test_a_dry_run_writes_nothing(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    said = cli(*words_for(many_pairs, tiny_encoder, "--dry-run"))
    assert said.code == 0 and "would train 24 models by bt, mlp, kernel" in said.out and not Path("study").exists()


def test_what_is_defined_runs_without_being_named(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    Path("own.yaml").write_text("wide: {head: {kind: mlp, hidden: 64}}\nslow: {head_learning_rate: 1.0e-4}\n")
    said = cli(*words_for(many_pairs, tiny_encoder, "--define", "own.yaml", "--dry-run"))
    assert said.code == 0 and "by bt, wide, slow;" in said.out, said.err + said.out


def test_small_data_leave_the_smallest_fractions_out(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    said = cli("study", many_pairs, "--out", "s", "--backbone", tiny_encoder, "--seeds", 2, "--dry-run")
    # 208 judgements to learn from: a twentieth are too few to build prototypes
    assert said.code == 0 and "left out the fraction 0.05" in said.err and "would train 48 models" in said.out


def test_all_methods_are_right() -> None:
    settings = StudySettings(data="-", out="-", methods=tuple(METHODS))
    assert [method.name for method in methods_of(settings)] == list(METHODS)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--methods", "prototype"], "did you mean 'prototypes'?"),
        (["--baseline", "btt"], "did you mean 'bt'?"),
        (["--fractions", 0.001, 1.0], "at least two split groups"),
        (["--fractions", 0, 1.0], "shares lie above 0"),
        (["--fractions", 0.5, 0.5], "names each share once"),
        (["--folds", 1], "one part would leave nothing"),
        (["--keep", 5], "leave no method out"),
        (["--methods", "tuned", "mlp", "--define", "tuned.yaml", "--keep", 1], "tuned cannot stop after an epoch"),
        (["--methods", "crossed", "mlp", "--define", "tuned.yaml", "--keep", 1], "crossed cannot stop after an epoch"),
        (["--methods", "prototypes", "--fractions", 0.05, 1.0], "at least 20 judgements"),
        (["--define", "none.yaml"], "cannot read the methods"),
        (["--define", "wrong.yaml"], "heads: no such setting"),
        (["--define", "list.yaml"], "these are no methods"),
        (["--define", "seeded.yaml"], "seed is the same for all methods"),
        (["--define", "named.yaml"], "holds '/'"),
        (["--methods", "bt", "ser", "mlp", "--keep", 1], "ser cannot stop after an epoch"),
        (["--define", "rounds.yaml"], "heads on a frozen backbone"),
        (["--test-share", 0.3, "--folds", 2], "each of --folds is a test by itself"),
    ],
)
def test_bad_input(cli: Cli, tiny_encoder: Path, many_pairs: Path, words: list[Any], reason: str) -> None:
    Path("wrong.yaml").write_text("wide: {heads: mlp}\n")
    Path("list.yaml").write_text("- mlp\n")
    Path("seeded.yaml").write_text("wide: {seed: 3}\n")
    Path("named.yaml").write_text("a/b: {head: mlp}\n")
    Path("tuned.yaml").write_text("tuned: {freeze_backbone: false}\ncrossed: {cross_prompt: 0.2}\n")
    Path("rounds.yaml").write_text("wide: {evolve: {}, freeze_backbone: false}\n")
    said = cli("study", many_pairs, "--out", "study", "--backbone", tiny_encoder, "--seeds", 2, *words)
    assert said.code == 2 and reason in said.err, said.err
    assert not Path("study").exists() and not Path("study.partial").exists()


def test_only_ties_are_refused(cli: Cli, tiny_encoder: Path) -> None:
    rows = [{"prompt": f"Is {n} it?", "response_a": "fine", "response_b": "no", "winner": "tie"} for n in range(40)]
    Path("ties.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = cli("study", "ties.jsonl", "--out", "study", "--backbone", tiny_encoder, "--methods", "bt")
    assert said.code == 2 and "prefer no response" in said.err, said.err


@pytest.mark.slow
def test_an_ensemble_of_one_warns_once(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    Path("own.yaml").write_text("one: {ensemble: {members: 1}}\n")
    said = cli(*words_for(many_pairs, tiny_encoder, "--define", "own.yaml", "--methods", "one"))
    assert said.code == 0 and said.err.count("an ensemble of one") == 1
    assert margins("one.1") == margins("bt.1")
