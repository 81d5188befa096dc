"""The worker: the only process in which the program runs. It answers the judge's questions; nobody believes it."""

import wire


def serve(program, reading, writing):
    """Loads the program, tells its names, then answers until the judge is gone."""
    objects = []

    def remember(value):
        objects.append(value)
        return len(objects) - 1

    def answer(compute):
        try:
            told = ["value", wire.encode(compute(), remember)]
        except Exception as error:  # noqa: BLE001 - the judge decides what it means
            told = ["raised", [type(error).__name__, str(error)[:300]]]
        wire.send(writing, told)

    scope = {"__name__": "program"}

    def load():
        exec(program["setup"], scope)
        exec(compile(program["source"], "program", "exec"), scope)
        return {name: value for name, value in scope.items() if not name.startswith("__")}

    answer(load)
    while (question := wire.receive(reading)) is not None:
        verb, number, payload = question
        found = wire.decode(payload, objects.__getitem__)
        answer(lambda found=found, verb=verb, number=number: _ACTIONS[verb](objects[number], found))


_ACTIONS = {
    "call": lambda value, payload: value(*payload[0], **payload[1]),
    "list": lambda value, _: [*value],
    "len": lambda value, _: len(value),
    "item": lambda value, key: value[key],
    "attribute": getattr,
    "truth": lambda value, _: bool(value),
}
