"""Fast or slow: will a patient's diabetes progress faster than that of half the patients in the coming year?

The data are the 442 patients of Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression" (Annals of
Statistics, 2004), as they come with scikit-learn: ten values measured at the start, and one number for how far the
disease had progressed a year later. "fast" means above the median of the training rows (141), "slow" the rest.
A small neural network learns it from 265 patients; 177 others are kept apart for testing.

Nobody is treated with this. It is a small real system for seeing what an assessment looks like.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import nn

WEIGHTS = Path(__file__).parent / "model.pt"
SEED = 0

Rows = tuple[pd.DataFrame, np.ndarray, pd.DataFrame]


class Standardize(nn.Module):
    """Subtract the mean and divide by the standard deviation that the training rows had."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, features) values in their own units to (n, features) multiples of the standard deviation."""
        return (rows - self.mean) / self.std


def build() -> nn.Sequential:
    """The untrained network: ten values in, two logits (slow, fast) out."""
    return nn.Sequential(
        Standardize(10),
        nn.Linear(10, 32),
        nn.ReLU(),
        nn.Linear(32, 16),
        nn.ReLU(),
        nn.Linear(16, 2),
    )


def _splits() -> tuple[Rows, Rows]:
    """Training and test rows, 60 to 40, with sexes and degrees of progression shared out evenly."""
    values, progression = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    quarters = pd.qcut(progression, 4, labels=False).astype(str) + values["sex"].astype(str)
    rows = train_test_split(values.index, train_size=0.6, stratify=quarters, random_state=SEED)
    median = progression[rows[0]].median()
    return _named(values, progression > median, rows[0]), _named(values, progression > median, rows[1])


def _named(values: pd.DataFrame, fast: pd.Series, rows: pd.Index) -> Rows:
    """Features, labels and the groups that fairness is looked at for."""
    chosen = values.loc[rows].reset_index(drop=True)
    groups = pd.DataFrame(
        {
            # The data set codes sex as 1 and 2 and does not say which is which, so the groups keep these names.
            "sex": "sex " + chosen["sex"].astype(int).astype(str),
            "age_group": np.select([chosen["age"] < 40, chosen["age"] < 60], ["under 40", "40 to 59"], "60 and over"),
        }
    )
    return chosen, np.where(fast.loc[rows], "fast", "slow"), groups


def train() -> Rows:
    """The 265 patients the network learns from."""
    return _splits()[0]


def test() -> Rows:
    """The 177 patients it never sees in training."""
    return _splits()[1]


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Seeded, and on one thread: a network this small trains faster so, and alike on any number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def fit() -> None:
    """Train on the training rows and save the weights."""
    values, labels, _ = train()
    torch.save(train_anew(values.to_numpy(), (labels == "fast").astype(int), SEED).state_dict(), WEIGHTS)


def train_anew(values: np.ndarray, labels: np.ndarray, seed: int) -> nn.Sequential:
    """A network newly trained, as the assessed one was, on (n, 10) values of patients who are slow (0) or fast (1).

    25 passes: in five-fold cross-validation within the training rows the loss on the fold left out was smallest
    between 20 and 30 passes. The test rows played no part in this.
    """
    x, y = torch.tensor(values, dtype=torch.float32), torch.tensor(labels)
    with _repeatable(seed):
        model = build()
        model.load_state_dict({"0.mean": x.mean(dim=0), "0.std": x.std(dim=0)}, strict=False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
        for _ in range(25):
            for batch in torch.randperm(len(x)).split(32):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
    return model.eval()


def load_model() -> nn.Sequential:
    """The trained network."""
    model = build()
    model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return model.eval()
