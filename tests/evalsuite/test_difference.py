"""What moved between two suites. Oracle: the figures that were changed on purpose."""

from evalsuite.difference import check, diff
from evalsuite.evidence import Chances
from evalsuite.suite import Dropped, Suite
from tests.evalsuite.test_suite import example


def changed(suite: Suite, **fields) -> Suite:
    return Suite.model_validate({**dict(suite), **fields})


def test_nothing_moved() -> None:
    found = diff(example(), example())
    assert not found and found.unmoved == 3


def test_a_removed_task_names_the_figures() -> None:
    a = example()
    gone, stays = a.tasks
    worse = Chances(early=0.4, late=0.0, saturated=0.0, noisy=0.6)
    told = gone.evidence.model_copy(update={"klass": "noisy", "p": worse, "opens": 8e20})
    lost = Dropped(task=gone.task, metric="acc", shots=0, reason="noisy (p 0.60)", evidence=told)
    b = changed(a, tasks=(stays.model_copy(update={"weight": 1.0}),), dropped=(lost,))
    moves = {move.task: move for move in diff(a, b).moves}
    assert moves["alpha"].what == "removed"
    assert "class early-signal -> noisy; p_early 0.9 -> 0.4" in moves["alpha"].because
    assert "opens 3e+19 -> 8e+20" in moves["alpha"].because
    assert moves["beta"].because == "tasks scored in its cluster 2 -> 1"
    assert moves["beta"].what == "weight" and (moves["beta"].before, moves["beta"].after) == ("0.5", "1.0")
    back = {move.task: move for move in diff(b, a).moves}
    assert back["alpha"].what == "added" and "p_early 0.4 -> 0.9" in back["alpha"].because


def test_metric_shots_and_held_out() -> None:
    a = example()
    alpha, beta = a.tasks
    other = alpha.model_copy(update={"metric": "bpb"})
    found = diff(a, changed(a, tasks=(other, beta.model_copy(update={"shots": 5}))))
    assert [(move.task, move.what) for move in found.moves] == [("alpha", "metric"), ("beta", "shots")]
    assert "DP of acc, 0-shot 0.9 -> lower; DP of bpb, 0-shot 0.85 -> 0.9" == found.moves[0].because
    freed = changed(a, held_out=())
    assert [move.what for move in diff(a, freed).moves] == ["removed"]


def test_clusters_are_compared_by_members_not_numbers() -> None:
    a = example()
    two = tuple(a.clusters[0].model_copy(update={"cluster": n, "weight": 0.5}) for n in (1, 2))
    alpha, beta = a.tasks
    split = changed(a, clusters=two, tasks=(alpha, beta.model_copy(update={"cluster": 2})))
    swapped = changed(
        a, clusters=two, tasks=(beta, alpha.model_copy(update={"cluster": 2})),
        held_out=tuple(item.model_copy(update={"cluster": 2}) for item in a.held_out),
    )  # fmt: skip
    assert [(move.task, move.what) for move in diff(a, split).moves] == [("beta", "cluster")]
    assert not diff(split, swapped).moves


def test_check_looks_at_what_follows_from_the_scores_only() -> None:
    a = example()
    text = a.text("evalsuite build --scores old/place.csv")
    newer = a.provenance.model_copy(update={"versions": {"numpy": "9.9"}})
    assert check("mid.yaml", text, a.model_copy(update={"provenance": newer})) is None
    told = check("mid.yaml", text.replace("items: 100", "items: 101", 1), a)
    assert told and "-    items: 101" in told and "+    items: 100" in told
    assert "edited" in str(check("mid.yaml", text.replace("sha256:", "sha256:0"), a))
    assert "not valid YAML" in str(check("mid.yaml", text.replace("tasks:", "tasks: ]"), a))
