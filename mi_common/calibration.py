"""Calibration of a classifier's logits on samples that it was not trained on."""

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

STEPS, TOLERANCE = 100, 1e-11  # nats, of all samples together
LARGEST_LOG_SCALE = 10.0


def fit_calibration(
    logits: Tensor, labels: Tensor, log_prior: Tensor, *, bias_sd: float = 1.0
) -> tuple[Tensor, Tensor]:
    """`fisher_scoring` of tensors, on the CPU.

    (N, K) PC-softmax logits, (N,) labels and the (K,) log prior of the training data -> a scale and
    a (K,) bias, in float64 on the device of the logits.
    """
    arrays = logits.double().cpu().numpy(), labels.cpu().numpy(), log_prior.double().cpu().numpy()
    scale, bias = fisher_scoring(*arrays, bias_sd=bias_sd)
    scale = torch.tensor(scale, dtype=torch.float64, device=logits.device)
    return scale, torch.from_numpy(bias).to(logits.device)


def fisher_scoring(
    logits: np.ndarray,
    labels: np.ndarray,
    log_prior: np.ndarray,
    *,
    bias_sd: float,
    start: tuple[float, np.ndarray] | None = None,
) -> tuple[float, np.ndarray]:
    """The temperature and class biases of highest posterior density.

    The calibrated logits are `scale * logits + bias`. The likelihood is that of the labels under
    softmax(scale * f + bias + log prior). Normal priors, of standard deviation 1 on the log scale
    and `bias_sd` on each bias, limit what few samples change; without samples the logits stay the
    same. A class with one or two samples may still get a wrong bias.

    Args:
        logits: (N, K) PC-softmax logits.
        labels: (N,) class numbers.
        log_prior: (K,) log class probabilities of the samples.
        bias_sd: 0 for a temperature alone.
        start: scale and bias where the search begins; 1 and 0 if not given.

    Returns:
        A scale above zero and a (K,) bias.
    """
    num_classes, precision = logits.shape[1], bias_sd**-2 if bias_sd else 0.0
    counts = np.bincount(labels, minlength=num_classes)
    label_logits = logits[np.arange(len(labels)), labels].sum()

    def objective(log_scale: float, bias: np.ndarray) -> tuple[float, np.ndarray]:
        joint = np.exp(log_scale) * logits + (bias + log_prior)
        log_total = logsumexp(joint, axis=1)
        loss = log_total.sum() - np.exp(log_scale) * label_logits - counts @ bias
        loss += (log_scale**2 + precision * bias @ bias) / 2
        return loss, np.exp(joint - log_total[:, None])

    scale, bias = start or (1.0, np.zeros(num_classes))
    log_scale, bias = np.log(scale), bias if bias_sd else np.zeros(num_classes)
    loss, posterior = objective(log_scale, bias)
    for _ in range(STEPS):
        scaled = np.exp(log_scale) * logits
        mean = (posterior * scaled).sum(axis=1)
        gradient = mean.sum() - np.exp(log_scale) * label_logits + log_scale
        curvature = (posterior * scaled**2).sum() - mean @ mean + 1
        step, bias_step = gradient / curvature, 0.0
        if bias_sd:
            information = np.empty((num_classes + 1, num_classes + 1))
            information[0, 0] = curvature
            information[0, 1:] = (posterior * (scaled - mean[:, None])).sum(axis=0)
            information[1:, 0] = information[0, 1:]
            information[1:, 1:] = np.diag(posterior.sum(axis=0) + precision)
            information[1:, 1:] -= posterior.T @ posterior
            gradients = posterior.sum(axis=0) - counts + precision * bias
            step, *bias_step = np.linalg.solve(information, np.append(gradient, gradients))
        size, bias_step, before = 1.0, np.array(bias_step), loss
        while size > 1e-6:  # halved until the loss does not rise
            tried = np.clip(log_scale - size * step, -LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)
            loss, tried_posterior = objective(tried, bias - size * bias_step)
            if loss <= before:
                log_scale, bias, posterior = tried, bias - size * bias_step, tried_posterior
                break
            size /= 2
        if not before - loss > TOLERANCE:
            break
    return float(np.exp(log_scale)), bias
