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
# # 1. Scores and curves
#
# **Question: a benchmark score went up. Did the model get better, or was that noise?**
#
# To answer it we need many scores of many models, a curve of score against training compute, and a figure for
# what a score moves by when nothing was learned. This notebook goes from a table of scores to such a curve.
#
# All numbers come with the package: a ladder of small models that this project trained and evaluated. Nothing
# is downloaded. `pip install -e '.[notebook]'` in the root of the repository is enough.

# %%
import os

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

import scaling
from scaling.embedded import ladder
from scaling.errors import BadScores
from scaling.windows import noise_at

# %matplotlib inline

SMALL = os.environ.get("STAGEWISE_NOTEBOOK_SMALL") == "1"  # less of everything, for tests
REPLICATES = 50 if SMALL else 400  # bootstrap draws of a curve
TASK = "arc_easy"  # try another one

# %% [markdown]
# ## A score table
#
# One row is one measured number: which run (`model`), at which checkpoint (`step`), after how much compute
# (`flops`), asked what (`task`), scored how (`metric`). A `family` is a recipe, here a mixture of text.
# Scores are of the mean of the last four snapshots of a run; `ladder("raw")` has those of the plain weights.

# %%
table = ladder()
table

# %% [markdown]
# Which runs are there? Sizes stand in the columns, recipes in the rows.

# %%
runs = table.frame.drop_duplicates(["model", "seed", "step"])
grid = runs.assign(weights=[f"{n / 1e6:.2g}M" for n in runs["params"]])
grid = grid.pivot_table(index="family", columns="weights", values="model", aggfunc="nunique", fill_value=0)
grid[sorted(grid, key=lambda name: float(name[:-1]))]

# %%
Markdown(
    f"{runs['model'].nunique()} runs of {runs['family'].nunique()} recipes, with {len(runs):,} checkpoints "
    f"from {runs['flops'].min():.1e} to {runs['flops'].max():.1e} FLOPs: "
    f"{np.log10(runs['flops'].max() / runs['flops'].min()):.1f} decades of compute. "
    f"{table.frame['task'].nunique()} tasks, {table.frame['metric'].nunique()} metrics."
)

# %% [markdown]
# ## One benchmark, two metrics
#
# Accuracy counts the items whose right answer is the likeliest choice. Bits per byte (`bpb`) says how
# surprised the model is by the right answer, and lower is better. Both come from the same items and the same
# log-likelihoods. These are the finished runs of the recipe with most runs, in order of compute.

# %%
frame = table.frame
one = table.where((frame["task"] == TASK) & frame["metric"].isin(["acc", "bpb"]), "not asked for here")
recipe = frame.groupby("family")["model"].nunique().idxmax()
ends = one.frame[one.frame["family"] == recipe].sort_values("step").groupby(["model", "metric"]).tail(1)
ends.pivot_table(index="flops", columns="metric", values="score", aggfunc=["count", "mean", "std"]).round(3)

# %% [markdown]
# ## The curve
#
# `fit_curves` fits a law to each task and metric: a sigmoid that starts at chance for accuracies, a power law
# for bits per byte. Whole runs are left out one by one, and drawn anew, to see how sure the curve is: the
# checkpoints of one run are not independent.

# %%
curves = scaling.fit_curves(one, replicates=REPLICATES)
shown = ["task", "metric", "law", "points", "n_points", "n_clusters", "trend_q"]
curves.to_frame()[shown].assign(trend_q=lambda rows: rows["trend_q"].map("{:.1g}".format))

# %% [markdown]
# `trend_q` is the false discovery rate at which a trend shows. A parameter of a law may not be seen in the
# data: the upper end of a curve that nobody has reached, say. It is then "not identified", and has no
# interval.

# %%
pd.concat({metric: curves[TASK, metric].parameters() for metric in ("acc", "bpb")}).round(3)

# %% [markdown]
# ## Gain against noise
#
# A gain means something next to the noise: what the score of one run moves by from checkpoint to checkpoint
# and from seed to seed, when nothing was learned. What counts is how many such noises the curve rises from
# the smallest compute to the largest.


# %%
def rise(curve: scaling.Curve) -> dict:
    """What a curve gains over the whole ladder, in units of the score and of one run's noise."""
    low, high = 10 ** np.array(curve.span)
    first, last = curve.predict([low, high])
    gain, noise = abs(last - first), float(noise_at(curve, np.array([last]))[0])
    return {"first": first, "last": last, "gain": gain, "noise": noise, "gain / noise": gain / noise}


gains = pd.DataFrame({curve.key.metric: rise(curve) for curve in curves}).T
gains.round(3)

# %% [markdown]
# ## Your own scores
#
# Any frame with these columns is a score table. `scaling.read_scores` reads lm-eval results, OLMo CSV, wide
# CSV and more, and finds the format by looking. What is wrong in a table is told at once, by row, column and
# value.

# %%
mine = pd.DataFrame(
    {
        "source": "mine", "model": ["m-s0", "m-s0", "m-s1"], "step": [1000, 1000, 2000], "task": TASK,
        "metric": "acc", "score": [0.31, 0.32, 31.0], "params": 1e6, "tokens": [2e7, 2e7, -4e7],
    }
)  # fmt: skip
try:
    scaling.ScoreTable.from_frame(mine, where="mine")
except BadScores as problem:
    print(problem)

# %% [markdown]
# ## Answer
#
# The same answers of the same models, scored in two ways. The band is the interval of the curve. The shaded
# range is where a run with twice the compute scores better with a probability of 0.8 or more: there a higher
# score says something. Outside of it, which of two such runs scores better is less sure than that.

# %%
ratio = gains["gain / noise"]
Markdown(
    f"From {10 ** curves[TASK, 'bpb'].span[0]:.1e} to {10 ** curves[TASK, 'bpb'].span[1]:.1e} FLOPs, "
    f"accuracy on {TASK} moves by {100 * gains.loc['acc', 'gain']:.1f} points, {ratio['acc']:.1f} times the "
    f"noise of one run; bits per byte move by {gains.loc['bpb', 'gain']:.2f}, {ratio['bpb']:.1f} times. "
    f"The metric that stands out more from its noise is **{ratio.idxmax()}**."
)

# %%
figure = Figure(figsize=(13, 4.8), layout="constrained")
for ax, metric in zip(figure.subplots(1, 2), ("acc", "bpb"), strict=True):
    curves[TASK, metric].plot(ax=ax)
figure
