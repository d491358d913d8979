"""Pictures of curves, windows, clusters, forecasts and decisions.

Each function draws on the axes it is given, or on a new `matplotlib.figure.Figure`, and returns them. None
of them uses pyplot: nothing is shown, no backend is chosen, and no figure outlives its last reference.
"""

from scaling.plot.canvas import save
from scaling.plot.clusters import plot_clusters
from scaling.plot.curve import plot_curve, plot_curves, plot_law
from scaling.plot.decisions import plot_decisions
from scaling.plot.forecast import plot_backtest, plot_forecast
from scaling.plot.windows import plot_windows

__all__ = [
    "plot_backtest",
    "plot_clusters",
    "plot_curve",
    "plot_curves",
    "plot_decisions",
    "plot_forecast",
    "plot_law",
    "plot_windows",
    "save",
]
