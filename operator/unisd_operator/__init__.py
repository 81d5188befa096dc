"""The Kubernetes operator of UniSD: `SelfDistillRun` resources, reconciled. Design: docs/operator/design.md."""
