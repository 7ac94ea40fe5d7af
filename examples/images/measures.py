"""How good drawn images are: by a small classifier's features, by neighbours, by boosted trees."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import pairwise_distances, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier


class Features:
    """Features of images: the last hidden layer of a classifier that is trained here.

    Parameters
    ----------
    images : ndarray of shape (n, ...)
    labels : ndarray of shape (n,)
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, seed: int = 0) -> None:
        self.largest = images.max()
        self.classifier = MLPClassifier(
            (128, 32), alpha=1e-3, early_stopping=True, max_iter=100, random_state=seed
        ).fit(self._rows(images), labels)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the features, (n, 32)."""
        z = self._rows(images)
        weights = zip(self.classifier.coefs_[:-1], self.classifier.intercepts_[:-1], strict=True)
        for matrix, bias in weights:
            z = np.maximum(z @ matrix + bias, 0)
        return z

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Return the share of images that the classifier knows."""
        return float(self.classifier.score(self._rows(images), labels))

    def _rows(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1) / self.largest


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Frechet distance of the Gaussians with the moments of features."""
    first, second = np.cov(a.T), np.cov(b.T)
    gap = a.mean(0) - b.mean(0)
    roots = np.sqrt(scipy.linalg.eigvals(first @ second).real.clip(min=0))
    return float(gap @ gap + np.trace(first + second) - 2 * roots.sum())


def precision_and_recall(drawn: np.ndarray, real: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Return the shares of drawn and of real features near the others (arXiv 1904.06991)."""
    return _share_near(drawn, real, k), _share_near(real, drawn, k)


def _share_near(asked: np.ndarray, others: np.ndarray, k: int) -> float:
    radii = np.sort(pairwise_distances(others), 1)[:, k]
    return float((pairwise_distances(asked, others) <= radii).any(1).mean())


def detection_auc(drawn: np.ndarray, real: np.ndarray, seed: int = 0) -> float:
    """Return the AUC of boosted trees that tell drawn from real images; .5 is chance."""
    n = min(len(drawn), len(real))
    images = np.concatenate([drawn[:n], real[:n]]).reshape(2 * n, -1)
    labels = np.repeat([1, 0], n)
    chance = cross_val_predict(
        HistGradientBoostingClassifier(random_state=seed),
        images,
        labels,
        cv=StratifiedKFold(5, shuffle=True, random_state=seed),
        method="predict_proba",
    )
    return float(roc_auc_score(labels, chance[:, 1]))
