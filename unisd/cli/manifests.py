"""Commands that read a manifest and compute nothing: validate, render, schema, explain."""

import argparse
from pathlib import Path

from unisd.cli.console import BAD_INPUT, Commands, complain, load, say


def add(commands: Commands) -> None:
    """Tells the parser of the commands."""
    validate = commands.add_parser("validate", help="check manifests; shows every problem")
    validate.add_argument("-f", "--file", type=Path, required=True, nargs="+", help="manifests")
    validate.add_argument("--cluster", action="store_true", help="as a cluster takes them, not this machine")
    validate.set_defaults(command=_validate)
    render = commands.add_parser("render", help="print every object that the operator makes of a manifest")
    render.add_argument("-f", "--file", type=Path, required=True, help="the manifest")
    render.add_argument("--settings", type=Path, help="the installation's settings, as its chart mounts them")
    render.set_defaults(command=_render)
    schema = commands.add_parser("schema", help="print the JSON Schema of manifests, for editors")
    schema.set_defaults(command=_schema)
    explain = commands.add_parser("explain", help="show what a preset sets, with units and reasons")
    explain.add_argument("preset", help="name of the preset, or `list`")
    explain.set_defaults(command=_explain)


def _validate(options: argparse.Namespace) -> int:
    valid = True
    for path in options.file:
        run = load(path, options.cluster)
        valid = valid and run is not None
        if run is not None:
            say(f"{path}: valid")
    return 0 if valid else BAD_INPUT


def _render(options: argparse.Namespace) -> int:
    import yaml
    from pydantic import ValidationError
    from unisd_operator.planning.render import gpus, most_gpus, render, to_yaml
    from unisd_operator.settings import Settings, read_settings

    from unisd.config.base import ConfigError
    from unisd.config.load import load_cluster_run

    try:
        run = load_cluster_run(options.file)
        settings = read_settings(options.settings) if options.settings else Settings()
    except (ConfigError, ValidationError, yaml.YAMLError, OSError) as error:
        complain(str(error))
        return BAD_INPUT
    say(to_yaml(render(run, settings)).rstrip())
    rows = gpus(run, settings)
    complain("\n".join(["GPUs", *(f"  {row}" for row in rows)]))
    complain(f"  {run.metadata.name}: at most {most_gpus(run, rows)} at once (parallelism {run.spec.parallelism})")
    return 0


def _schema(_options: argparse.Namespace) -> int:
    import json

    from unisd.config.run import SelfDistillRun

    say(json.dumps(SelfDistillRun.model_json_schema(by_alias=True), indent=2))
    return 0


def _explain(options: argparse.Namespace) -> int:
    from unisd.config.explain import explain, preset_lines
    from unisd.config.presets import PRESETS

    if options.preset == "list":
        say("\n".join(preset_lines()))
        return 0
    if options.preset not in PRESETS:
        complain(f"unknown preset {options.preset!r}; presets: {', '.join(PRESETS)}")
        return BAD_INPUT
    say(explain(options.preset))
    return 0
