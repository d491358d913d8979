"""Held-out text row by row, so that two models can be compared on the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from scaling.laws import Array
from train.validation import Validation


@dataclass(frozen=True)
class HeldOut:
    """The windows of a `Validation`, one a row.

    Attributes:
        validation: the windows. domain: of each row, [r]. bytes: of text in it, [r].

    Example:
        >>> rows = HeldOut.of(plan.validation())                 # doctest: +SKIP
        >>> rows.bits(model).sum() / rows.bytes.sum()            # doctest: +SKIP
        2.31
    """

    validation: Validation = field(repr=False)
    domain: np.ndarray
    bytes: np.ndarray

    @classmethod
    def of(cls, validation: Validation) -> HeldOut:
        """Rows in the order of the domains."""
        domain, size = [], []
        for name, batches in validation.parts:
            for batch in batches:
                for row in validation.bytes[torch.from_numpy(batch)[:, 1:]].sum(dim=1).tolist():
                    domain.append(name)
                    size.append(row)
        return cls(validation, np.asarray(domain), np.asarray(size, dtype=np.int64))

    def bits(self, model: nn.Module) -> Array:
        """Bits of the text of each row by a `train.mtp.TrainedModel`, in the mode it is in, [r]."""
        lengths, found = self.validation.bytes, []
        with torch.no_grad():
            for _, batches in self.validation.parts:
                for batch in batches:
                    ids = torch.from_numpy(batch)
                    losses = model(ids, losses="tokens").double()
                    found.append(losses.masked_fill(lengths[ids[:, 1:]] == 0, 0.0).sum(dim=1))
        return torch.cat(found).numpy() / math.log(2)
