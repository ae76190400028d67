"""The state of each picture while a batch is optimised: the best so far, the history, and whether it has stopped."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Tracker:
    """Follows N pictures, of which fewer and fewer are still in the batch. All of it stays on the device.

    Args:
        parameters: ``(N, ...)``, what the pictures start from.
        steps: The largest number of steps.
        patience: A picture stops after this many steps without an improvement. None: it never does.
        min_delta: The smallest improvement that counts.
        presentable: ``(N,)``, whether the initial picture may be the best, as a warm start may. Noise or grey never
            shows what a unit looks for, even where every later picture scores less without transforms. Default: none.

    Attributes:
        active: ``(b,)``, the rows of the pictures that are still in the batch.
    """

    def __init__(
        self,
        parameters: Tensor,
        steps: int,
        patience: int | None,
        min_delta: float,
        presentable: Tensor | None = None,
    ) -> None:
        n_pictures, device = len(parameters), parameters.device
        self.best_parameters = parameters.detach().clone()
        self.best_step = torch.zeros(n_pictures, dtype=torch.long, device=device)
        self.history = torch.full((steps, n_pictures), torch.nan, device=device, dtype=parameters.dtype)
        self.steps_made = torch.zeros(n_pictures, dtype=torch.long, device=device)
        self.moved = torch.zeros(n_pictures, dtype=torch.bool, device=device)
        self.failed = torch.zeros(n_pictures, dtype=torch.bool, device=device)
        self.stopped = torch.zeros(n_pictures, dtype=torch.bool, device=device)
        self.active = torch.arange(n_pictures, device=device)
        self._best = torch.full((n_pictures,), -torch.inf, device=device, dtype=parameters.dtype)
        self._reference = self._best.clone()
        self._waited = torch.zeros(n_pictures, dtype=torch.long, device=device)
        self._presentable = presentable if presentable is not None else torch.zeros_like(self.stopped)
        self._patience = patience
        self._min_delta = min_delta

    def record(self, step: int, scores: Tensor, totals: Tensor, gradients: Tensor, warming_up: bool = False) -> None:
        """Record a step: history, failures and patience.

        Args:
            step: Its number, from 0.
            scores: ``(b,)``, of the transformed pictures in the batch.
            totals: ``(b,)``, the scores less the penalties.
            gradients: ``(b, ...)``, of the totals to the parameters.
            warming_up: Whether transforms still grow stronger, so that scores fall by themselves. Patience begins
                after that, and the last of these scores is the one to beat.
        """
        # The largest gradient is non-finite if any entry is: one pass answers both questions.
        largest = gradients.flatten(1).abs().amax(1)
        not_finite = ~((totals + largest).abs() < torch.inf)
        self.history[step] = scores if self._all_active else self.history[step].index_copy(0, self.active, scores)
        # Steps of small networks are short, and each operation counts: a full batch needs no indexing.
        states = (self.moved, self.failed, self.stopped, self.steps_made)
        moved, failed, stopped, steps_made = states if self._all_active else [state[self.active] for state in states]
        steps_made += ~stopped
        moved.logical_or_(largest)
        failed |= not_finite & ~stopped
        stopped |= not_finite
        if not self._all_active:
            for state, changed in zip(states, (moved, failed, stopped, steps_made), strict=True):
                state[self.active] = changed
        if self._patience is None:
            return
        improved = (totals > self._reference[self.active] + self._min_delta) | warming_up
        self._reference[self.active] = torch.where(improved, totals, self._reference[self.active])
        self._waited[self.active] = torch.where(improved, 0, self._waited[self.active] + 1)
        self.stopped |= self._waited >= self._patience

    def offer(self, parameters: Tensor, totals: Tensor) -> None:
        """Keep the parameters of the pictures that are as good as before, or better.

        If two totals are equal up to rounding, the later picture is kept: near an optimum the total is flat, and
        rounding would choose any of many pictures.

        Args:
            parameters: ``(b, ...)``, of the pictures in the batch, after the steps that were recorded.
            totals: ``(b,)``, the scores of the clean pictures less the penalties. A non-finite one is never better.
        """
        best = self._best[self.active]
        rounding = 4 * torch.finfo(totals.dtype).eps * best.abs()
        better = totals.isfinite() & (totals >= best - rounding) & ~self.failed[self.active]
        better &= (self.steps_made[self.active] > 0) | self._presentable[self.active]
        self._best[self.active] = torch.where(better, torch.maximum(totals, best), best)
        self.best_step[self.active] = torch.where(better, self.steps_made[self.active], self.best_step[self.active])
        rows = better.reshape(-1, *[1] * (parameters.ndim - 1))
        self.best_parameters[self.active] = torch.where(rows, parameters.detach(), self.best_parameters[self.active])

    @property
    def _all_active(self) -> bool:
        return len(self.active) == len(self.stopped)

    def running(self) -> list[int]:
        """Return the places in the batch of the pictures that have not stopped. This waits for the device."""
        places: list[int] = (~self.stopped[self.active]).nonzero()[:, 0].tolist()
        return places

    def keep(self, places: Sequence[int]) -> None:
        """Drop all pictures from the batch but those at `places`."""
        self.active = self.active[list(places)]
