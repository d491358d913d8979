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
# # 2. Classes and windows
#
# **Question: which benchmarks can be trusted at this stage of training?**
#
# A benchmark is informative in a window of compute. Below it every model guesses, above it all are perfect,
# and some never separate signal from noise. This notebook finds the window of every task of the ladder, sorts
# the tasks into classes, and checks the probabilities behind them against pairs of real runs.
#
# All numbers come with the package. `pip install -e '.[notebook]'` in the root of the repository is enough.

# %%
import os
from dataclasses import replace

import numpy as np
import pandas as pd
from IPython.display import Markdown

import scaling
from evalsuite.settings import find_settings, find_stage
from scaling.calibration import calibrate
from scaling.embedded import ladder

# %matplotlib inline

SMALL = os.environ.get("STAGEWISE_NOTEBOOK_SMALL") == "1"  # less of everything, for tests
REPLICATES = 40 if SMALL else 200  # bootstrap draws of a curve
EVERY = 4 if SMALL else 1  # every n-th task
ROWS = 12  # tasks of each metric in the picture

# %% [markdown]
# ## The stage
#
# A stage is an interval of compute. The ladder has three named ones, and we ask about the middle one. A task
# counts as early when its window opens by the end of the stage.

# %%
_, stage = find_stage("mid", find_settings("ladder"))
table = ladder()
frame = table.frame
asked = sorted(frame["task"].unique())[::EVERY]
table = table.where(frame["task"].isin(asked) & frame["metric"].isin(["acc", "bpb"]), "not asked for here")
Markdown(f"Stage {stage.low:.1e} to {stage.high:.1e} FLOPs. {table}.")

# %% [markdown]
# ## Classes
#
# At each compute we ask: with what probability does a run with twice the compute score better? That follows
# from the curve and from the noise. Where it is 0.8 or more is the task's window.
#
# | class | meaning |
# |---|---|
# | early-signal | the window opens by the end of the stage |
# | late-signal | it opens later, inside the data or within a decade beyond them |
# | saturated | it closed before the stage: at the ceiling, or on a plateau that the data show |
# | noisy | no trend, or noise that swallows it |
# | undetermined | none of these is sure |
#
# A class belongs to a task *and a metric*: the same benchmark can be early in one and noisy in the other.

# %%
found = scaling.classify(table, stage=stage, replicates=REPLICATES)
classes = found.to_frame()
pd.crosstab(classes["class"], classes["metric"], margins=True, margins_name="all")

# %% [markdown]
# Each class comes with its probability over the bootstrap draws, and with the figures behind it. The surest
# of each:

# %%
names = {name: f"p_{name.replace('-', '_')}" for name in classes["class"].unique() if name != "undetermined"}
sure = classes[classes["class"].isin(names)].copy()
sure["p"] = [row[names[row["class"]]] for _, row in sure.iterrows()]
sure = sure.sort_values(["p", "task"], ascending=[False, True]).groupby("class", sort=True).head(2)
pd.set_option("display.max_colwidth", None)
sure.sort_values("class")[["class", "p", "task", "metric", "evidence"]].round(2).reset_index(drop=True)

# %% [markdown]
# ## Does the metric matter?
#
# By where the window of each task opens, in either metric. A window counts where scores have a trend to the
# better: a curve through noise may rise as steeply somewhere. No window counts as later than any.

# %%
trend = classes.assign(opens=classes["opens"].where(classes["direction"] == "improves", np.inf))
both = trend.pivot(index="task", columns="metric", values="opens").fillna(np.inf)
first = np.select([both["bpb"] < both["acc"], both["bpb"] > both["acc"]], ["bpb", "acc"], "neither")
counts = pd.Series(first).value_counts().reindex(["bpb", "acc", "neither"], fill_value=0)
Markdown(
    f"Of {len(both)} tasks, {counts['bpb']} open at less compute in bits per byte, "
    f"{counts['acc']} in accuracy, and {counts['neither']} at the same (the start of the data, or nowhere). "
    f"{int(np.isinf(both['acc']).sum())} have no window in accuracy, "
    f"{int(np.isinf(both['bpb']).sum())} none in bits per byte."
)

# %% [markdown]
# ## Are the probabilities right?
#
# Take pairs of real runs, the one with 1.5 to 6 times the compute of the other, their tokens per parameter
# within a factor of two. The curve is fitted again without either of them, and says with what probability
# the one with more compute scores better. How often did it? Where `ordered_right` lies near
# `mean_probability`, the probabilities mean what they say; `low` and `high` are the interval.

# %%
checked = calibrate(found.curves, ratio=(1.5, 6.0), match=2.0)
checked.to_frame().round(2)

# %% [markdown]
# ## Answer
#
# A bar runs from where a window opens to where it closes, in the colour of its class. An arrow is an end that
# the data do not show. The grey rail is what was measured, the whisker the interval of the opening, the
# diamond where the curve clears chance. Shown are tasks of each metric, spread evenly from the first to open
# to those that never do; `found.plot()` draws all of them.

# %%
told = [
    f"in {metric} {int((part['class'] == 'early-signal').sum())} of {len(part)} tasks"
    for metric, part in classes.groupby("metric")
]
Markdown(f"Early-signal by {stage.high:.1e} FLOPs: {', '.join(told)}.")

# %%
chosen = []
for metric in ("acc", "bpb"):
    ordered = sorted(
        (task for task in found.tasks if task.metric == metric),
        key=lambda task: (np.nan_to_num(task.opens, nan=np.inf), task.task),
    )
    places = np.linspace(0, len(ordered) - 1, min(ROWS, len(ordered))).round().astype(int)
    chosen += [ordered[i] for i in places]
replace(found, tasks=tuple(chosen)).plot().figure
