"""Every metric of a training step: one name, in files, plots, Prometheus and `/progress`.

`metrics.jsonl` of a component holds one object per optimiser step with these names and `step`. A metric of a mechanism
that is off is absent. Prometheus names are `unisd_train_` + name.
"""

STEP_METRICS: dict[str, str] = {
    "loss": "objective of the step, nats",
    "divergence": "mean divergence over unmasked tokens, before clipping and weights, nats",
    "entropy": "mean entropy of the student's token distribution at temperature τ, nats",
    "agreement_weight": "mean agreement weight",
    "agreement_weight_min": "smallest agreement weight",
    "agreement_disagreement": "mean disagreement of auxiliary teachers, nats² (variance) or nats (range)",
    "agreement_effective_share": "effective sample size of the weights over their number, 0 to 1",
    "agreement_scored_share": "share of completions whose auxiliary contexts were scored (gate)",
    "contrastive_loss": "mean hinge of the contrastive term, nats",
    "contrastive_active_share": "share of tokens whose hinge is open",
    "contrastive_rows_share": "share of rows that have a negative",
    "features_distance": "mean squared distance of last hidden states",
    "clip_share": "share of tokens whose divergence was clipped",
    "clip_bound": "bound κ in force, nats",
    "share_contrastive": "share of the contrastive term in the gradient at the last hidden state",
    "share_features": "share of feature matching in the gradient at the last hidden state",
    "share_agreement": "‖g − g without weights‖ / ‖g without weights‖ at the last hidden state",
    "share_clip": "‖g − g without clip‖ / ‖g without clip‖ at the last hidden state",
    "share_ema": "‖ΔW teacher‖ / ‖ΔW student‖",
    "on_policy": "1 where the step learnt on the student's completions, 0 on reference demonstrations",
    "completion_tokens": "mean length of completions, tokens",
    "truncated_share": "share of completions without a stop token",
    "leak_share": "share of completions that repeat a 5-gram of the template's own instructions",
    "repetition": "share of repeated 4-grams within completions",
    "rows": "rows of the step with at least one unmasked token",
    "learning_rate": "learning rate",
    "grad_norm": "global gradient norm before clipping",
    "non_finite_steps": "steps so far that were skipped for a non-finite loss or gradient",
    "skipped_steps": "steps so far without any unmasked token",
    "tokens_scored": "tokens of no-grad forward passes",
    "tokens_trained": "tokens of student forward passes",
    "seconds": "wall-clock time of the step, seconds",
    "seconds_sample": "wall-clock time of sampling, seconds",
    "seconds_score": "wall-clock time of scoring, seconds",
    "seconds_learn": "wall-clock time of forward, backward and update, seconds",
    "memory_gib": "peak memory so far (device if there is one, else resident), GiB",
}
