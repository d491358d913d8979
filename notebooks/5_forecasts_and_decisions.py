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
# # 5. Forecasts and decisions
#
# **Question: what do small runs say about large ones?**
#
# Two things are asked of small runs. What will the large run score? And which of several recipes is the best
# one? The first is a forecast, the second a decision, and both can be tried where the large runs are known.
# This notebook hides the largest models of the ladder and forecasts them, and asks whether the smallest
# models order mixtures of text as larger ones do.
#
# All numbers come with the package. `pip install -e '.[notebook]'` in the root of the repository is enough.

# %%
import os
from dataclasses import replace

import numpy as np
import pandas as pd
from IPython.display import Markdown

import scaling
from scaling.embedded import ladder

# %matplotlib inline

SMALL = os.environ.get("STAGEWISE_NOTEBOOK_SMALL") == "1"  # less of everything, for tests
EVERY = 6 if SMALL else 1  # every n-th task
RESAMPLES = 200 if SMALL else 1000
TASK = "arc_easy"  # try another one
ROWS = 12  # tasks at either end of the picture

# %% [markdown]
# ## What is known, and what is hidden
#
# One recipe was trained at all sizes. The two largest sizes are hidden; everything smaller may be learned
# from.

# %%
everything = ladder("averaged")
frame = everything.frame
chosen = {TASK, *sorted(frame["task"].unique())[::EVERY]}
everything = everything.where(
    frame["task"].isin(chosen) & frame["metric"].isin(["acc", "bpb"]), "not asked for here"
)
frame = everything.frame
recipe = frame.groupby("family")["params"].nunique().idxmax()
table = everything.where(frame["family"] == recipe, "another recipe")
sizes = sorted(table.frame["params"].unique())
cut = sizes[-3]
known = table.where(table.frame["params"] <= cut, "hidden")
hidden = table.where(table.frame["params"] > cut, "known")
Markdown(
    f"Recipe `{recipe}`: {known.frame['model'].nunique()} runs of {len(sizes) - 2} sizes are known, up to "
    f"{known.frame['flops'].max():.1e} FLOPs. {hidden.frame['model'].nunique()} runs are hidden, up to "
    f"{hidden.frame['flops'].max():.1e} FLOPs, "
    f"{hidden.frame['flops'].max() / known.frame['flops'].max():.0f} times as much."
)

# %% [markdown]
# ## One forecast
#
# A forecast is the mean of several laws and of the last value carried forward. Each weighs by how well it
# would have foretold the largest runs among the known ones.

# %%
last = hidden.frame[(hidden.frame["task"] == TASK) & (hidden.frame["metric"] == "bpb")]
last = last.sort_values("step").groupby("model").tail(1).sort_values("flops")
ratio = float((last["tokens"] / last["params"]).iloc[-1])
ahead = scaling.forecast(known, TASK, last["flops"].unique(), metric="bpb", tokens_per_param=ratio)
ahead.methods.round(3)

# %%
ax = ahead.plot()
ax.scatter(last["flops"], last["score"], marker="*", s=110, color="#D55E00", zorder=7)
low, high = ax.get_ylim()
ax.set_ylim(min(low, 0.98 * last["score"].min()), max(high, 1.02 * last["score"].max()))
ax.figure

# %% [markdown]
# The stars are what the hidden runs scored.

# %%
largest = last.iloc[-1]
value, bottom, top = (float(getattr(ahead, name)[-1]) for name in ("value", "low", "high"))
told = "the interval is not identified"
if np.isfinite(bottom):
    inside = "holds" if bottom <= largest["score"] <= top else "does not hold"
    told = f"the {ahead.level:.0%} interval {bottom:.2f} to {top:.2f} {inside} it"
Markdown(
    f"The largest run, `{largest['model']}`, scored {largest['score']:.3f} bits per byte on {TASK}. "
    f"{value:.3f} was forecast, and {told}."
)

# %% [markdown]
# ## All forecasts
#
# One hit proves nothing. `backtest` does the same for every task and both metrics, beside plain ways to
# guess: the last value carried forward, a straight line, an isotonic fit, and the sigmoid as scipy's
# curve_fit finds it. Errors are in points for accuracies and in bits per byte for bits. `gain` is how much
# larger a method's error is than that of the forecast, with its interval over tasks; `covered` is the share
# of the identified intervals that hold the score.

# %%
tried = scaling.backtest(table, cut_params=cut)
summary = tried.summary(resamples=RESAMPLES)
columns = ["family", "method", "targets", "failed", "mean", "median", "gain", "gain_low", "gain_high"]
summary[~summary["method"].str.startswith("method:")][columns].round(3)

# %%
lines = []
for family, part in summary.groupby("family"):
    ours = part[part["method"] == "forecast"].iloc[0]
    plain = part[~part["method"].str.contains(":") & (part["method"] != "forecast")]
    best = plain.loc[plain["mean"].idxmin()]
    verdict = "no clear difference"
    if best["gain_low"] > 0 or best["gain_high"] < 0:
        verdict = "the forecast is clearly " + ("better" if best["gain"] > 0 else "worse")
    lines.append(
        f"- **{family}**: mean error {ours['mean']:.3g}; the best plain way is {best['method']} with "
        f"{best['mean']:.3g}: {verdict}. {ours['identified']:.0%} of the intervals are identified, and "
        f"{ours['covered']:.0%} of these hold the score."
    )
Markdown("\n".join(lines))

# %%
tried.plot().figure

# %% [markdown]
# ## Which recipe?
#
# A decision asks less than a forecast: only the order. Every mixture of text was trained at several small
# sizes. We take the smallest and the largest compute that most recipes have in common, and count the pairs of
# recipes that the small runs order as the large ones do. A coin gets half of them right.

# %%
frame = everything.frame
finals = frame.sort_values("step").groupby(["model", "seed"]).tail(1)
recipes = finals.groupby(["params", "tokens"])["family"].nunique()
common = recipes[recipes > recipes.max() / 2].index
flops = sorted(finals.set_index(["params", "tokens"]).loc[common, "flops"].groupby(level=[0, 1]).median())
small, target = flops[0], flops[-1]
Markdown(f"Small: {small:.1e} FLOPs. Large: {target:.1e} FLOPs, {target / small:.0f} times as much.")

# %% [markdown]
# The suite whose judgement is tried here is the mean of the generated skills, in bits per byte. What is right
# is told by all other benchmarks at the larger compute, so that no task judges itself.

# %%
bits = everything.where(frame["metric"] == "bpb", "another metric")
rows = bits.frame[["task", "metric", "shots"]].drop_duplicates().sort_values("task")
skills = [scaling.Key.of(*row) for row in rows.itertuples(index=False) if row.task.startswith("skill_")]
suite = dict.fromkeys(skills, 1 / len(skills))
decided = scaling.decide(bits, small=small, target=target, by=("family",), suite=suite, resamples=RESAMPLES)
columns = ["kind", "rest", "rest_low", "rest_high", "pairs", "recipes", "note"]
decided.to_frame().query("kind != 'task'")[columns].round(2)

# %% [markdown]
# ## Answer
#
# A row is a task. The filled point is the share of pairs that its small runs order as the *other* benchmarks
# order the large runs, the hollow one as the task itself does. Below a fair number of pairs there is an
# interval and no point: no claim. Shown are the suite, all tasks averaged, random tasks, and the tasks at
# either end.

# %%
rows = decided.to_frame()
tasks = rows[rows["kind"] == "task"].sort_values("rest", ascending=False)
whole = rows[rows["kind"] == "suite"].iloc[0]
sure = tasks[tasks["rest_low"] > 0.5]
Markdown(
    f"{decided}. Of {len(tasks)} tasks, {len(sure)} order recipes better than a coin with 95% confidence, "
    f"{int((tasks['rest_high'] < 0.5).sum())} worse; {0.025 * len(tasks):.0f} on either side are "
    f"what chance alone gives. The suite of {len(suite)} skills orders "
    f"{whole['rest']:.0%} of the pairs right (interval {whole['rest_low']:.0%} to {whole['rest_high']:.0%})."
)

# %%
ends = tasks if len(tasks) <= 2 * ROWS else pd.concat([tasks.head(ROWS), tasks.tail(ROWS)])
replace(decided, rows=pd.concat([rows[rows["kind"] != "task"], ends])).plot().figure
