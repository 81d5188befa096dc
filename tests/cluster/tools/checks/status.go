package main

import (
	"context"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	upstream "sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type status struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// kstatus says what `kpt`, `cli-utils` and Flux without expressions read from the object.
func kstatus(object []byte) (any, error) {
	var parsed unstructured.Unstructured
	if err := parsed.UnmarshalJSON(object); err != nil {
		return nil, err
	}
	result, err := upstream.Compute(&parsed)
	if err != nil {
		return nil, err
	}
	return status{result.Status.String(), result.Message}, nil
}

// fluxHealth says what Flux reads from the object by a Kustomization's healthCheckExprs.
func fluxHealth(expressions *kustomize.HealthCheckExpressions) (check, error) {
	evaluator, err := cel.NewStatusEvaluator(expressions)
	if err != nil {
		return nil, err
	}
	return func(object []byte) (any, error) {
		var parsed unstructured.Unstructured
		if err := parsed.UnmarshalJSON(object); err != nil {
			return nil, err
		}
		result, err := evaluator.Evaluate(context.Background(), &parsed)
		if err != nil {
			return nil, err
		}
		return status{result.Status.String(), result.Message}, nil
	}, nil
}
