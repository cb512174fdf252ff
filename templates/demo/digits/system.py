"""Which digit is this? Reads one handwritten digit from an 8 x 8 grey image.

The data are the 1797 images of Alpaydin and Kaynak's "Optical Recognition of Handwritten Digits" (UCI, 1998) that come
with scikit-learn: each pixel counts, from 0 to 16, the black dots in one of 64 squares of the scanned digit.
A small convolutional network learns from 1078 of them; 719 others are kept apart for testing. Beside the release that
is assessed there is the one before it, and turned images that show what the network keeps of the angle.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import rotate
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

WEIGHTS = Path(__file__).parent / "model.pt"
EARLIER = Path(__file__).parent / "earlier.pt"
SEED = 0
ANGLES = (-18, -12, -6, 0, 6, 12, 18)  # degrees


def build() -> nn.Sequential:
    """The untrained network: a (1, 8, 8) image with values from 0 to 1 in, ten logits out."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def _splits() -> list[np.ndarray]:
    """Training images, test images, training labels, test labels: 60 to 40, the same share of every digit in both."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    found: list[np.ndarray] = train_test_split(
        images, digits.target, train_size=0.6, stratify=digits.target, random_state=SEED
    )
    return found


def train() -> tuple[np.ndarray, np.ndarray]:
    """The 1078 images (1, 8, 8) that the network learns from, with their digits."""
    images, _, labels, _ = _splits()
    return images, labels


def test() -> tuple[np.ndarray, np.ndarray]:
    """The 719 images that it never sees in training, with their digits."""
    _, images, _, labels = _splits()
    return images, labels


def overwritten() -> np.ndarray:
    """Two different digits in one box, as where somebody corrected a number by hand: 300 images (1, 8, 8)."""
    images, labels = test()
    one, other = np.random.default_rng(SEED).integers(len(images), size=(2, 1000))
    differ = labels[one] != labels[other]
    found: np.ndarray = np.maximum(images[one[differ]], images[other[differ]])[:300]
    return found


def turned() -> tuple[np.ndarray, np.ndarray]:
    """Test images of the digit 3, turned by known angles, with a little grey noise: 300 at each angle, in degrees."""
    images, labels = test()
    threes, rng = images[labels == 3], np.random.default_rng(SEED)
    rows, angles = [], []
    for angle in ANGLES:
        chosen = threes[rng.integers(len(threes), size=300)]
        moved = rotate(chosen, angle, axes=(2, 3), reshape=False, order=1)
        rows.append(moved + rng.normal(0, 0.05, moved.shape))
        angles += [float(angle)] * len(moved)
    return np.concatenate(rows).astype(np.float32), np.array(angles)


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
    """Train this release and the one before it, and save their weights."""
    _fit(WEIGHTS, passes=20, seed=SEED)
    _fit(EARLIER, passes=12, seed=SEED + 1)


def _fit(weights: Path, *, passes: int, seed: int) -> None:
    """Train on the training images; 20 passes bring the training loss below 0.05."""
    images, labels = train()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    with _repeatable(seed):
        model = build()
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(passes):
            for batch in torch.randperm(len(x)).split(32):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
    torch.save(model.state_dict(), weights)


def load_model() -> nn.Sequential:
    """The trained network."""
    return _loaded(WEIGHTS)


def load_earlier() -> nn.Sequential:
    """The release before it: other first weights, fewer passes."""
    return _loaded(EARLIER)


def _loaded(weights: Path) -> nn.Sequential:
    model = build()
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
