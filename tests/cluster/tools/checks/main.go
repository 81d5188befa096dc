// What the tools that watch a resource make of it: kstatus, Argo CD's Lua, Flux's health check expressions.
//
// Reads objects as JSON from stdin, one after the other, and writes one JSON answer a line. tests/cluster/checks.py
// calls it. It asks no cluster.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
)

const usage = `usage: k8scheck kstatus
       k8scheck lua SCRIPT
       k8scheck flux -current EXPR [-failed EXPR] [-in-progress EXPR]`

// check answers for one object, given as JSON.
type check func(object []byte) (any, error)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string, objects io.Reader, answers io.Writer) error {
	answer, err := parse(arguments)
	if err != nil {
		return err
	}
	input, output := json.NewDecoder(objects), json.NewEncoder(answers)
	for number := 1; ; number++ {
		var object json.RawMessage
		if err := input.Decode(&object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("object %d: %w", number, err)
		}
		found, err := answer(object)
		if err != nil {
			return fmt.Errorf("object %d: %w", number, err)
		}
		if err := output.Encode(found); err != nil {
			return err
		}
	}
}

func parse(arguments []string) (check, error) {
	if len(arguments) == 0 {
		return nil, errors.New(usage)
	}
	switch command, rest := arguments[0], arguments[1:]; {
	case command == "kstatus" && len(rest) == 0:
		return kstatus, nil
	case command == "lua" && len(rest) == 1:
		return luaScript(rest[0])
	case command == "flux":
		return flux(rest)
	}
	return nil, errors.New(usage)
}

func flux(arguments []string) (check, error) {
	var expressions kustomize.HealthCheckExpressions
	flags := flag.NewFlagSet("flux", flag.ContinueOnError)
	flags.StringVar(&expressions.Current, "current", "", "true if the object is as wished")
	flags.StringVar(&expressions.Failed, "failed", "", "true if it failed")
	flags.StringVar(&expressions.InProgress, "in-progress", "", "true if it is under way; asked first")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	return fluxHealth(&expressions)
}
