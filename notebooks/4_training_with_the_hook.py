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
# # 4. Training with the hook
#
# **Question: does a run lose a capability, and would we notice while it is running?**
#
# We train a tiny model on text that comes with Python, and take one domain away half way. The hook scores the
# run along the way, on the mean of its last four snapshots: the noise of the last few steps averages out. It
# raises an alarm when a capability falls behind its own past.
#
# This notebook trains a model, and needs the extra `train`: `pip install -e '.[train,notebook]'` in the root
# of the repository. Nothing is downloaded.

# %%
import os
from importlib.util import find_spec

if missing := [name for name in ("torch", "tokenizers", "safetensors", "tomli_w") if find_spec(name) is None]:
    raise ModuleNotFoundError(
        f"this notebook trains a model, and {', '.join(missing)} is not installed; "
        "run: pip install -e '.[train,notebook]'"
    )

from pathlib import Path
from tempfile import TemporaryDirectory

from IPython.display import Markdown
from matplotlib.figure import Figure

from evalsuite.alarms import watch
from evalsuite.evaluations import Evaluations
from evalsuite.report import Report
from train.config import read_config
from train.run import start
from train.studies.continuations import write_continuations
from train.text import tokens_of

# %matplotlib inline

SMALL = os.environ.get("STAGEWISE_NOTEBOOK_SMALL") == "1"  # less of everything, for tests
STEPS = 40 if SMALL else 600  # of training
LOOKS = 10 if SMALL else 30  # evaluations
ITEMS = 16 if SMALL else 48  # of each task
MOST = 600_000 if SMALL else 1_500_000  # bytes of text of each domain
LOST = "code"  # the domain that is taken away: code, maths or prose
folder = TemporaryDirectory()
place = Path(folder.name)

# %% [markdown]
# ## Text and tasks
#
# Three domains: sources of the standard library, their documentation, and generated arithmetic. A part is
# held out, and tasks are made of it: here is a passage, which of four continuations is the right one? At this
# size models can do little else.

# %%
text = {
    "data.sources": [{"path": "embedded", "most": MOST}], "data.tokenizer": 512, "data.held_out": 0.1,
    "data.overlap": False,  # of the check against benchmarks: the tasks here are made of held-out text
}  # fmt: skip
prepared = tokens_of(read_config(settings={"steps": 1, **text}).data, place / "tokens")
write_continuations(prepared, place / "tasks", ITEMS)
prepared.to_frame()

# %% [markdown]
# ## The run
#
# `eval.*` are the settings of the hook. In a loop of your own it is five lines:
#
# ```python
# hook = EvalHook("early.yaml", tokenizer, folder="runs/mine/evals", every=500)
# for step, batch in enumerate(batches, 1):
#     loss = train_on(batch)
#     hook(step, model, tokens=step * tokens_per_step, lr=rate, loss=loss)
# hook.close()
# ```
#
# The mixture is part of the settings, so that the hook knows when it changes.

# %%
mixture = {f"mixture.{name}": 1.0 for name in ("code", "maths", "prose")} | {
    f"mixture.{LOST}": "1 until 50%, then 0"
}
config = read_config(
    settings={
        "steps": STEPS, "data.folder": str(place / "tokens"), **mixture,
        "model.preset": "0.1m", "model.context": 96, "batch.rows": 12,
        "schedule.kind": "constant", "schedule.decay": 0.0,
        "eval.folders": [str(place / "tasks")], "eval.tasks": ["continue_*"], "eval.every": STEPS // LOOKS,
        "eval.least": 1, "eval.raw": 2, "eval.budget": 0.0,  # all of it, whatever it costs; 2% by default
        "validation.every": 0, "validation.tokens": 8_000, "checkpoint.every": STEPS,
    }
)  # fmt: skip
outcome = start(place / "run", config)
found = Evaluations.open(place / "run")
Markdown(
    f"{outcome.step} steps, {len(found.all)} evaluations of the mean of {config.eval.average} snapshots and "
    f"{len(found.raw)} of the weights as they were, {len(found.failures)} failures."
)

# %% [markdown]
# ## The mean against the weights of a moment
#
# What was measured is a score table like any other. The mean of snapshots costs no training. Early in a run
# it lags behind the weights, since these improve so fast; an evaluation whose mean is not to be trusted says
# so. In bits per byte, lower is better.

# %%
scores = found.table().frame.query("metric == 'bpb'")
wide = scores.pivot_table(index="step", columns="source", values="score")  # over the tasks
averaged, raw = sorted(wide, key=len, reverse=True)
wide = wide.rename(columns={averaged: "mean of snapshots", raw: "weights as they are"})
doubted = {one.step for one in found.all if one.doubts}
gain = (wide["weights as they are"] - wide["mean of snapshots"]).dropna()
trust = ["doubted" if step in doubted else "trusted" for step in gain.index]
gain.groupby(trust).agg(
    evaluations="size", mean_is_better=lambda part: int((part > 0).sum()), gain="mean"
).round(3)

# %%
figure = Figure(figsize=(7.2, 3.6), layout="constrained")
ax = figure.add_subplot()
for name, colour in (("weights as they are", "#A9A9A9"), ("mean of snapshots", "#0072B2")):
    wide[name].dropna().plot(ax=ax, marker="o", ms=3, color=colour, label=name)
ax.axvline(STEPS / 2, color="#D55E00", ls=":", label=f"{LOST} is taken away")
ax.set(xlabel="step", ylabel="bits per byte, all tasks", title="Held-out continuations")
ax.legend(frameon=False)
figure

# %% [markdown]
# ## Alarms
#
# What a capability is expected to score next follows from its own past. `watch` tests the evaluations that
# share no snapshot, one after the other, and keeps the chance of a false alarm in the whole run below a bound
# (5%). In the table higher is better.

# %%
watched = watch(found)
table = watched.to_frame()
shown = ["capability", "now", "expected", "low", "high", "evidence", "alarm", "since", "near", "status"]
table[shown].round(3)

# %% [markdown]
# The same as a page for the team, with curves, doubts, what is missing and what it cost; it asks for no
# network. On the command line: `evalsuite report RUN -o report.html`.

# %%
Report.of(place / "run").write(place / "report.html")
Markdown(f"{(place / 'report.html').stat().st_size / 1e3:.0f} kB of HTML.")

# %% [markdown]
# ## Answer
#
# The band is what was expected from the past, the dots are what came. The red line is where the alarm was
# noticed, the dotted one where the text changed.

# %%
told = [f"- {alarm}" for alarm in watched.alarms] or ["- no alarm"]
noticed = [alarm for alarm in watched.alarms if alarm.capability == LOST]
if noticed:
    late = noticed[0].noticed - STEPS / 2
    told.append(f"\nThe loss of {LOST} was noticed after {late:.0f} steps, {late / STEPS:.0%} of the run.")
Markdown("\n".join(told))

# %%
figure = Figure(figsize=(12.5, 3.8), layout="constrained")
parts = list(watched.history.groupby("capability"))
for ax, (name, part) in zip(figure.subplots(1, len(parts)), parts, strict=True):
    band = {"color": "#0072B2", "alpha": 0.18, "lw": 0, "label": "expected"}
    ax.fill_between(part["step"], part["low"], part["high"], **band)
    ax.plot(part["step"], part["score"], marker="o", ms=3, lw=1, color="#222222", label="measured")
    ax.axvline(STEPS / 2, color="#6B6B6B", ls=":", label=f"{LOST} is taken away")
    for alarm in watched.alarms:
        if alarm.capability == name:
            ax.axvline(alarm.noticed, color="#D55E00", lw=2, label="alarm")
    room = 0.5 * (part["score"].max() - part["score"].min())
    ax.set_ylim(part["score"].min() - room, part["score"].max() + room)
    ax.set(title=name, xlabel="step")
figure.axes[0].set_ylabel("ln(8 / bits per byte)")
figure.axes[0].legend(frameon=False, fontsize=8, loc="upper left")
folder.cleanup()
figure
