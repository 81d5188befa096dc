"""The trainer of UniSD: sample → score → learn, once per optimiser step.

On TRL's `SDFTTrainer`, which brings the model, the adapters, the optimiser and Transformers' loop. What a step is
stands here, what the loss is in `unisd.objective`, what surrounds a step in `loop`. Legend: N completion tokens of a
step on this process, R its rows, H hidden dimensions.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from trl.experimental.sdft import SDFTTrainer

from unisd.forward.heads import head_of
from unisd.forward.packed import causal_model, hidden_states, pack
from unisd.objective import agreement as agree
from unisd.objective.fused import self_distillation_loss
from unisd.objective.reduction import Denominators, Masks, coefficients, denominators
from unisd.objective.types import Head, Loss, Tokens
from unisd.rollouts.types import Completion, Sampling, derived_seed
from unisd.rollouts.vllm_engine import RolloutStopped
from unisd.sharded import whole
from unisd.teacher.types import Teacher
from unisd.training.figures import Figures, unmasked
from unisd.training.loop import Metrics, StepLoop, StepResult
from unisd.training.on_policy import learns_on_samples, references
from unisd.training.rows import Row
from unisd.training.score import Passes, Scored, score
from unisd.training.signs import instruction_ngrams
from unisd.training.together import gather, most, summed


@dataclass(frozen=True)
class _Step:
    """The rows of a step that reach the loss, flattened to tokens."""

    rows: list[Row]
    completions: list[Completion]
    mask_N: torch.Tensor
    row_N: torch.Tensor
    token_N: torch.Tensor

    def span(self, first: int, last: int) -> slice:
        """The tokens of rows first to last − 1."""
        lengths = [len(completion.ids) for completion in self.completions]
        return slice(sum(lengths[:first]), sum(lengths[:last]))


class UniSDTrainer(StepLoop, SDFTTrainer):  # type: ignore[misc]
    """Self-distillation with any set of mechanisms."""

    def __init__(
        self,
        *args: Any,
        teacher: Any,
        stop_ids: frozenset[int],
        instructions: Sequence[str],
        **kwargs: Any,
    ) -> None:
        """Like TRL's trainer, and:

        Args:
            teacher: called with the wrapped model, returns its `Teacher`.
            stop_ids: tokens that end a completion.
            instructions: the templates' own sentences, which completions must not repeat.
        """
        self._make_teacher = teacher
        self._stop_ids = stop_ids
        self._instructions = instruction_ngrams(instructions)
        self._clip_bound: float | None = None
        self._following_bound: float | None = None
        super().__init__(*args, **kwargs)

    def _setup_teacher_model(self) -> None:
        """Called by TRL once the model stands; its own teachers are not used (docs/differences.md)."""
        self.teacher: Teacher = self._make_teacher(self.accelerator.unwrap_model(self.model))

    # -- the three phases

    def learn(self, model: nn.Module, rows: list[Row]) -> StepResult:
        started = time.monotonic()
        on_policy = learns_on_samples(self.context.arm, self.state.global_step)
        limit = self.context.arm.training.max_completion_tokens
        completions = self._sample(rows) if on_policy else references(rows, limit)
        sampled = time.monotonic()
        step = self._kept(rows, completions)
        scored_rows = self._gate(step)
        scores = self._score(step, scored_rows)
        masks, disagreement_N = self._weigh(step, scores, scored_rows)
        total = self._total(denominators(masks))
        scored = time.monotonic()
        losses, trained = self._backward(model, step, scores, masks, total) if total.rows else ([], 0)
        self._find_following_bound(losses, masks)
        texts = [self.processing_class.decode(each.ids, skip_special_tokens=True) for each in completions]
        figures = Figures(self.accelerator, self.context.arm.objective)
        metrics = {
            **figures.signs(completions, texts, self._instructions),
            **figures.terms(losses, masks, total, self._bound()),
            **figures.difference(step.completions, losses, step.mask_N),
            **figures.shares(losses),
            **figures.agreement(masks, disagreement_N, scored_rows),
            "tokens_scored": summed(self.accelerator, scores.tokens),
            "tokens_trained": summed(self.accelerator, trained),
            "seconds_sample": sampled - started,
            "seconds_score": scored - sampled,
            "seconds_learn": time.monotonic() - scored,
        }
        if self.context.arm.sampling.on_policy < 1.0:
            metrics["on_policy"] = float(on_policy)
        loss = summed(self.accelerator, sum(float(loss.value.detach()) for loss in losses))
        ids, sample = [row.id for row in rows], next(iter(texts), "")
        return StepResult(loss, int(total.rows), metrics, ids=ids, sample=sample)

    def _sample(self, rows: list[Row]) -> list[Completion]:
        """One completion per row from the student as it is; a function of weights, seed, step and row alone."""
        step, sampler = self.state.global_step, self.context.sampler
        self.check_stop()
        wanted = self.context.arm.sampling
        assert wanted.temperature is not None, "resolved"
        sampling = Sampling(
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            top_k=wanted.top_k,
            max_tokens=self.context.arm.training.max_completion_tokens,
            seed=derived_seed(self.context.arm.seed, step),
            first_index=sampler.first_of_rank(len(sampler.step_rows(step))),
        )
        found: list[Completion] = []
        with suppress(RolloutStopped):
            engine = self.context.rollouts.engine(self, max(len(rows), 1))
            found = sorted(engine.generate([row.prompt for row in rows], sampling), key=lambda item: item.index)
        self.check_stop()
        return found

    def _kept(self, rows: list[Row], completions: list[Completion]) -> _Step:
        """The rows with at least one token that counts; truncated ones leave here, before they cost anything."""
        training = self.context.arm.training
        skip = training.loss_tokens_to_skip
        pairs = [
            (row, completion)
            for row, completion in zip(rows, completions, strict=True)
            if len(completion.ids) > skip and (completion.finished or not training.mask_truncated)
        ]
        device = self.accelerator.device
        ids = [token for _, completion in pairs for token in completion.ids]
        lengths = [len(completion.ids) for _, completion in pairs]
        positions = [position for length in lengths for position in range(length)]
        return _Step(
            rows=[row for row, _ in pairs],
            completions=[completion for _, completion in pairs],
            mask_N=torch.tensor([float(position >= skip) for position in positions], device=device),
            row_N=torch.tensor(
                [row for row, n in enumerate(lengths) for _ in range(n)], dtype=torch.long, device=device
            ),
            token_N=torch.tensor(ids, dtype=torch.long, device=device),
        )

    def _gate(self, step: _Step) -> list[bool]:
        """Which rows get their auxiliary contexts scored."""
        agreement = self.context.arm.objective.agreement
        if agreement is None or agreement.gate is None:
            return [agreement is not None] * len(step.rows)
        surprisal = [completion.surprisal for completion in step.completions]
        everyone = self._gather(surprisal)
        first = sum(len(part) for part in everyone[: self.accelerator.process_index])
        flat = [value for part in everyone for value in part]
        return agree.gated_rows(flat, agreement.gate.quantile)[first : first + len(surprisal)]

    def _score(self, step: _Step, scored_rows: list[bool]) -> Scored:
        self.check_stop()
        with torch.no_grad(), self.teacher.weights() as model, self.compute_loss_context_manager():
            model.eval()
            return score(
                model,
                head_of(model),
                step.rows,
                [completion.ids for completion in step.completions],
                scored_rows=scored_rows,
                passes=Passes(self.passes_of(self.context.arm.training.max_tokens_per_pass), self._most, self._filler),
            )

    def _weigh(self, step: _Step, scores: Scored, scored_rows: list[bool]) -> tuple[Masks, torch.Tensor | None]:
        """Masks and agreement weights of this process's tokens, and the disagreement behind them."""
        rows, agreement = len(step.rows), self.context.arm.objective.agreement
        negative_R = torch.tensor(
            [float(row.negative is not None) for row in step.rows], device=self.accelerator.device
        )
        if agreement is None:
            return Masks(step.mask_N, step.row_N, torch.ones_like(step.mask_N), negative_R), None
        kept_N, scored_N, disagreement_N = step.mask_N > 0, step.mask_N > 0, step.mask_N
        if rows:
            disagreement_N = agree.disagreement(scores.context_logp_KN, step.mask_N, step.row_N, rows, agreement)
            scored_N = torch.tensor(scored_rows, device=self.accelerator.device)[step.row_N]
        found = disagreement_N[scored_N & kept_N]
        scale = 1.0
        if agreement.scale == "quantile":  # every process takes part, also one without rows
            everyone = torch.tensor([value for part in self._gather(found.tolist()) for value in part])
            scale = agree.quantile_scale(everyone, torch.ones_like(everyone), agreement)
        weight_N = agree.weights(disagreement_N, agreement, scale).where(scored_N, torch.ones_like(disagreement_N))
        return Masks(step.mask_N, step.row_N, weight_N, negative_R), found

    def _backward(
        self, model: nn.Module, step: _Step, scores: Scored, masks: Masks, total: Denominators
    ) -> tuple[list[Loss], int]:
        """Student passes by micro-step; returns their losses and the tokens forwarded."""
        model.train()  # scoring left it in evaluation mode, in which no activation is recomputed
        size = self.passes_of(self.context.arm.training.per_device_batch_size)
        world = self.accelerator.num_processes
        level = self.context.arm.objective.agreement.level if self.context.arm.objective.agreement else "token"
        coefficient = coefficients(masks, level, total)
        starts = list(range(0, len(step.rows), size))
        losses, tokens = [], 0
        turns = self._most(len(starts))
        for turn in range(turns):
            self.check_stop()
            first = starts[turn] if turn < len(starts) else len(step.rows)
            last = min(first + size, len(step.rows))
            span = step.span(first, last)
            rows = range(first, last)
            packed = pack(
                [step.rows[row].prompt for row in rows] or [[self._filler]],
                [step.completions[row].ids for row in rows] or [[]],
                self.accelerator.device,
            )
            tokens += packed.tokens
            with self.compute_loss_context_manager():
                student_NH = hidden_states(model, packed)
            core = causal_model(model)
            with whole([core.get_output_embeddings().weight]):  # until its gradient has come: no module's hooks see it
                inputs = Tokens(
                    student_NH=student_NH,
                    student_head=head_of(core),
                    teacher_NH=scores.hidden_NH[span],
                    teacher_head=self._teacher_head(core),
                    token_N=step.token_N[span],
                    teacher_logp_N=scores.logp_N[span],
                    negative_logp_N=scores.negative_logp_N[span],
                )
                part = type(coefficient)(**{name: value[span] for name, value in vars(coefficient).items()})
                loss = self_distillation_loss(inputs, self.context.arm.objective, part, self._bound())
                self.backward(model, loss.value * world, last=turn + 1 == turns)
            losses.append(loss)
        return losses, tokens

    @property
    def _filler(self) -> int:
        """A token for the pass of a process that has no rows left while others still have: all must forward alike."""
        return min(self._stop_ids)

    def _teacher_head(self, core: Any) -> Head:
        with self.teacher.weights() as model:
            teacher = causal_model(model)
        head = head_of(core if teacher is core else teacher)
        return Head(head.weight_VH.detach(), head.softcap)

    # -- clipping at the previous step's quantile

    def _bound(self) -> float | None:
        clip = self.context.arm.objective.clip
        if clip is None:
            return None
        return clip.value if clip.value is not None else self._clip_bound

    def _find_following_bound(self, losses: list[Loss], masks: Masks) -> None:
        """The bound that the next step will have, if this one turns out to count."""
        clip = self.context.arm.objective.clip
        if clip is not None and clip.quantile is not None:
            mine = unmasked(losses, "divergence_N", masks.mask_N).tolist()
            everyone = [value for part in self._gather(mine) for value in part]
            if everyone:
                self._following_bound = agree.exact_quantile(torch.tensor(everyone), clip.quantile)

    def extra_state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        return {"clip_bound": self._clip_bound}, self.teacher.state()

    def restore_extra(self, values: Any, tensors: dict[str, torch.Tensor]) -> None:
        self._clip_bound = self._following_bound = values["clip_bound"]
        self.teacher.restore(tensors)

    def after_update(self) -> Metrics:
        self._clip_bound = self._following_bound
        self.teacher.update(self.state.global_step)
        moved = self.teacher.displacement()
        return {} if moved is None or moved[1] == 0.0 else {"share_ema": moved[0] / moved[1]}

    # -- all processes together

    def _gather(self, values: list[Any]) -> list[list[Any]]:
        """The lists of all processes, in order of rank."""
        return gather(self.accelerator, values)

    def _most(self, value: int) -> int:
        return most(self.accelerator, value)

    def _total(self, mine: Denominators) -> Denominators:
        parts = self._gather([(mine.rows, mine.weight, mine.negative_rows)])
        return sum((Denominators(*part[0]) for part in parts), Denominators(0.0, 0.0, 0.0))
