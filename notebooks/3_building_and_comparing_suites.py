# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Building and comparing suites
#
# **Question: which tasks belong into the suite of an early stage, and which into that of a late one?**
#
# Teams pick their benchmarks by hand and never write down why. Here the suite of a stage follows from scores:
# a file that people review, that says for each task why it is in, and that two people who have the same
# scores get byte for byte. This notebook builds the suites of two stages, asks what moved between them and
# why, and then cuts one to a fifth of its cost.
#
# All numbers come with the package. `pip install -e '.[notebook]'` in the root of the repository is enough.

# %%
import os
from dataclasses import replace

import pandas as pd
from IPython.display import Markdown

from evalsuite.build import build
from evalsuite.difference import check, diff
from evalsuite.settings import find_settings
from scaling.embedded import ladder

# %matplotlib inline

SMALL = os.environ.get("STAGEWISE_NOTEBOOK_SMALL") == "1"  # less of everything, for tests
REPLICATES = 40 if SMALL else 100  # bootstrap draws of a curve
EVERY = 8 if SMALL else 3  # every n-th task

# %% [markdown]
# ## The stages
#
# A stage is an interval of training compute. Adjacent ones overlap, so that a series that changes suite has
# scores under both. The settings of the ladder come with the package, and carry a warning that every suite
# built with them repeats.

# %%
settings = find_settings("ladder")
table = ladder()
frame = table.frame
asked = sorted(frame["task"].unique())[::EVERY]
table = table.where(frame["task"].isin(asked) & frame["metric"].isin(["acc", "bpb"]), "not asked for here")
Markdown(
    "\n".join(
        [
            f"> {settings.note}\n",
            *(
                f"- **{name}**: {one.low:.1e} to {one.high:.1e} FLOPs"
                for name, one in settings.stages.items()
            ),
            f"\n{table}.",
        ]
    )
)

# %% [markdown]
# ## The suite of the early stage
#
# `build` classifies every task in every metric, keeps the metric that says more, groups tasks that rank
# models of like compute alike, and gives each group the same weight. One task of a group is held out where it
# has several: the suite can then be checked by what it was not chosen for.

# %%
early = build(table, "early", settings=settings, replicates=REPLICATES)
shown = ["role", "task", "metric", "cluster", "weight", "opens", "dp"]
early.suite.to_frame()[shown].round(3)

# %% [markdown]
# The audit has a row for each candidate, with the reason why it is in or out.

# %%
audit = early.audit
pd.set_option("display.max_colwidth", None)
audit.groupby("decision").head(4).sort_values(["decision", "task"])[["decision", "task", "metric", "reason"]]

# %%
Markdown(
    f"{len(audit)} candidates of {audit['task'].nunique()} tasks: {(audit['decision'] == 'kept').sum()} kept "
    f"in {len(early.suite.clusters)} clusters, {(audit['decision'] == 'held-out').sum()} held out, "
    f"{(audit['decision'] == 'dropped').sum()} dropped. Clusters: {early.suite.criterion}."
)

# %% [markdown]
# ## The file
#
# A suite is a YAML file. Its head names the command that makes it (here that of all tasks, of which this page
# takes a part to be quick), and a digest shows whether somebody edited it since. `check` compares a file with
# what follows from the scores now; here a weight was changed by hand.

# %%
text = early.suite.text(
    "evalsuite build --scores ladder --settings ladder --stage early --metric acc --metric bpb"
)
print("\n".join(text.splitlines()[:11]))

# %%
weight = f"weight: {early.suite.tasks[0].weight:g}"
print("as it was built:", check("early.yaml", text, early.suite))
print("edited by hand: ", check("early.yaml", text.replace(weight, "weight: 0.5", 1), early.suite))

# %% [markdown]
# ## What moves from early to late?
#
# `diff` names each task that has another place, and the figure because of which.

# %%
late = build(table, "late", settings=settings, replicates=REPLICATES)
change = diff(early.suite, late.suite)
print("\n".join(change.context))
pd.DataFrame(change.lines(), columns=["task", "what", "before", "after", "because"])

# %% [markdown]
# ## A fifth of the cost
#
# Under a budget the suite keeps the tasks, and as many items of each, that hold its agreement with benchmarks
# outside it. Does choosing like this hold up? It is tried on models and benchmarks that the choice has not
# seen, next to all tasks, to equally costly random suites, to the single best task, and, where enough of them
# are scored, to the ten tasks of OLMES. `agreement` is a rank correlation, or a share of pairs of recipes
# where there are enough of them.

# %%
cheap = build(table, "early", settings=settings, replicates=REPLICATES, budget="20%")
quality = cheap.economy.quality
quality.to_frame().round(2) if quality else cheap.economy.unmeasured

# %%
told = f"The suite reads {cheap.economy.cost:,.0f} of {cheap.economy.full:,.0f} tokens"
if quality:
    estimate, low, high = quality.difference
    verdict = "no difference is shown" if low <= 0 <= high else "better" if low > 0 else "worse"
    told += (
        f". Its agreement less that of all tasks is {estimate:.2f} (95% interval {low:.2f} to {high:.2f}): "
        f"{verdict}. It beats {quality.above:.0%} of equally costly random suites"
    )
Markdown(f"{told}.")

# %% [markdown]
# ## Answer
#
# The tasks that are scored in either suite, with their windows. A bar runs from where the window opens to
# where it closes, and an arrow is an end that the data do not show. Shaded is the early stage, hatched the
# late one; the right margin names the suites that a task is in. A task belongs into a suite where its bar
# covers the stage, as long as none that says the same is there already.

# %%
suites = {"early": early.suite, "late": late.suite}
scored = {name: {task.key for task in suite.tasks} for name, suite in suites.items()}
Markdown(
    f"{len(scored['early'] & scored['late'])} tasks are scored in both suites, "
    f"{len(scored['early'] - scored['late'])} in the early one alone, "
    f"{len(scored['late'] - scored['early'])} in the late one alone."
)

# %%
every = scored["early"] | scored["late"]
found = replace(early.classification, tasks=tuple(t for t in early.classification.tasks if t.key in every))
ax = found.plot(probabilities=False)
begins, ends = settings.stages["late"].low, settings.stages["late"].high
ax.axvspan(begins, ends, facecolor="none", edgecolor="#7A5200", hatch="//", alpha=0.3, zorder=0.5)
ax.text((begins * ends) ** 0.5, -0.7, "late stage", ha="center", va="bottom", fontsize=8, color="#7A5200")
metric = None
for y, label in enumerate(text.get_text() for text in ax.get_yticklabels()):
    metric = label if label in ("acc", "bpb") else metric  # rows stand below the name of their metric
    of = [
        name
        for name, keys in scored.items()
        if any(key.task == label and metric in (None, key.metric) for key in keys)
    ]
    ax.text(1.02, y, ", ".join(of), transform=ax.get_yaxis_transform(), va="center", fontsize=8)
ax.figure
