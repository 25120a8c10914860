"""Text regularisers of GRM against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from assay.objectives import pairwise_loss, text_loss


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_golden_values() -> None:
    assert text_loss("sigmoid", f64(-50), f64(-1), beta=0.1).item() == pytest.approx(5.006715, abs=1e-6)
    assert text_loss("sft", f64(-50), f64(-1)).item() == 50
    # DPO's own: ratios 2 and -1, beta 0.1
    assert text_loss("dpo", f64(2), f64(-1), beta=0.1).item() == pytest.approx(0.554355, abs=1e-6)


@pytest.mark.parametrize("kind", ["sigmoid", "sft", "dpo"])
def test_swapping_the_replies_and_the_verdict_changes_nothing(kind: str) -> None:
    a, b, p = f64(-3, -40, -7), f64(-5, -2, -7), f64(1, 0.3, 0.5)
    found = text_loss(kind, a, b, p, beta=0.2)  # type: ignore[arg-type]
    torch.testing.assert_close(found, text_loss(kind, b, a, 1 - p, beta=0.2))  # type: ignore[arg-type]


def test_an_uncertain_verdict_is_the_expectation_over_the_better_reply() -> None:
    a, b = f64(-3), f64(-8)
    for kind in ("sigmoid", "sft"):
        certain = [text_loss(kind, a, b, p, beta=0.5) for p in (1.0, 0.0)]
        found = text_loss(kind, a, b, 0.7, beta=0.5)
        torch.testing.assert_close(found, 0.7 * certain[0] + 0.3 * certain[1])
    found = text_loss("dpo", a, b, 0.7, beta=0.5)
    torch.testing.assert_close(found, pairwise_loss(f64(2.5), 0.7, reduction="none"))


def test_the_worse_reply_is_not_looked_at() -> None:
    a = f64(-3).requires_grad_()
    found = text_loss("sigmoid", a, f64(-float("inf")), 1.0)
    found.backward()
    torch.testing.assert_close(found, functional.softplus(f64(0.3)))
    assert a.grad is not None and a.grad.isfinite().all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        text_loss("sft", f64(1, 2), f64(1))
    with pytest.raises(ValueError, match="unknown text loss 'mle'"):
        text_loss("mle", f64(1), f64(1))  # type: ignore[arg-type]
