"""Trains a face-recognition network.

    python train.py                                  # synthetic faces, a small network, the CPU
    python train.py --config=configs/lfw_dev.py --config.data.path=FOLDER --workdir=runs/mine

Everything is written into the workdir: checkpoints, metrics.jsonl, config.json, curves.png and
report/. The same command again goes on from the newest checkpoint.
"""

import time

STARTED = time.perf_counter()

# ruff: noqa: E402
import functools
import json
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import config_flags

from facejax import checkpoints, command, compilation, data, evaluation, files, recognition
from facejax.errors import UserError
from facejax.training import distributed, from_config, log, state, step

HERE = pathlib.Path(__file__).parent
CONFIG = command.define_config(str(HERE / "configs" / "default.py"))
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where everything is written; by default runs/NAME of the config."
)
# Not in the config, as they differ from process to process.
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 of several.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, counted from 0.")


def main(_: Sequence[str]) -> None:
    """Trains, evaluates and reports."""
    config = command.config_value(CONFIG)
    with command.remedy("the flags are --coordinator=HOST:PORT, --processes and --process"):
        distributed.initialize(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    first = jax.process_index() == 0  # of several processes, the one that prints and writes
    compilation.enable_cache(config.compilation_cache)
    devices = from_config.devices(config)

    # --- The work directory, and what is in it already -------------------------------------------
    name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = files.expand(WORKDIR.value or f"runs/{name}")
    if workdir.is_file():
        raise UserError(f"the workdir {workdir} is a file; give a folder with --workdir")
    metrics_path = workdir / "metrics.jsonl"
    saved = checkpoints.open_directory(workdir / "checkpoints", keep=config.checkpoint.keep)
    start = saved.latest_step() or 0

    # --- Network and loss: a mistake in the config stops here, before any data is read ------------
    network = from_config.network(config, axis_name=step.AXIS)
    objective = from_config.objective(config)
    augmentation = from_config.augmentation(config)

    # --- Data ------------------------------------------------------------------------------------
    source = from_config.training_source(config)
    num_classes = source.num_classes
    data.check_labels(source, num_classes)
    batches = from_config.batches(config, source, start=start)
    steps = from_config.steps(config, source)
    protocol = from_config.protocol(config)
    distributed.say(
        f"{len(source)} images of {num_classes} identities, {steps} steps of "
        f"{config.batch_size} on {len(devices)} {devices[0].device_kind} device(s)"
    )

    # --- Optimizer and state ---------------------------------------------------------------------
    rate = from_config.schedule(config, steps=steps)
    tx = from_config.update_rule(config, rate)
    head = from_config.head_update(config, tx, rate, num_classes=num_classes, devices=len(devices))
    create, shapes = from_config.initial_state(
        config, network, objective, tx, num_classes=num_classes, devices=len(devices)
    )
    placed = step.placed_shapes(shapes, devices, sharded=config.head.sharded)
    facts = from_config.facts(config, num_classes=num_classes)

    # --- Resume, or start ------------------------------------------------------------------------
    if start:
        own = state.per_class(placed)
        with command.remedy("or start anew with another --workdir"):
            current = checkpoints.restore(saved, start, placed, facts, per_class=own)
        distributed.say(f"going on from step {start} of {workdir}")
    else:
        with command.remedy("name it with --workdir"):
            log.make_directory(workdir)
        places = jax.tree.map(lambda leaf: leaf.sharding, placed)
        current = compilation.jit(create, out_shardings=places)(jax.random.key(config.seed))
    if start >= steps:
        distributed.say(
            f"the run in {workdir} is complete: {start} steps; more --config.steps go on from it\n"
            + log.final_table(log.read_lines(metrics_path))
        )
        return
    if first:
        log.forget_after(metrics_path, start)
        files.write(workdir / "config.json", json.dumps(facts["config"], indent=2) + "\n")

    # --- The step and the evaluation, compiled once ----------------------------------------------
    stepper = from_config.compiled_step(
        config, network, objective, head, augmentation, shapes, devices=devices
    )
    embedder = recognition.make_embedder(network.apply)

    def evaluate(current: state.TrainState) -> evaluation.Verification:
        assert protocol is not None
        variables = {"params": current.params["backbone"], "batch_stats": current.batch_stats}
        # Every process does all of it on copies of its own, so that none waits for another.
        variables = jax.tree.map(lambda leaf: leaf.addressable_data(0), variables)
        embed = functools.partial(
            recognition.embed, embedder, variables, batch_size=config.evaluation.batch_size
        )
        return evaluation.evaluate(embed, protocol)

    # --- The loop --------------------------------------------------------------------------------
    untrained = evaluate(current) if protocol and not start else None
    progress = log.Progress(
        metrics_path,
        steps=steps,
        start=start,
        learning_rates=np.asarray(jax.vmap(rate)(jnp.arange(steps))),
        source=source,
        silent=not first,
    )
    if untrained:
        progress.write({"step": 0, **evaluation.scores(untrained)})
    current = stepper.enter(current)
    distributed.barrier("the first step")
    previous = None
    result = None
    for number in range(start + 1, steps + 1):
        batch = next(batches)
        records = batch.pop("record")  # which they are is not for the device
        current, metrics = stepper.run(current, stepper.feed(batch))
        if number == start + 1:
            jax.block_until_ready(metrics)
            progress.say(f"first step done {time.perf_counter() - STARTED:.1f} s after the start")
        # The numbers of the step before are read while the device works on this one.
        if previous:
            progress.update(*previous)
        previous = number, metrics, records
        evaluating = protocol and (number == steps or log.due(number, config.evaluation.every))
        saving = number == steps or log.due(number, config.checkpoint.every)
        if evaluating or saving:
            progress.update(*previous)
            previous = None
        with progress.paused():
            if evaluating:
                result = evaluate(current)
                scores = evaluation.scores(result)
                progress.write({"step": number, **scores})
                progress.say(f"step {number}: {evaluation.scores_in_words(scores)}")
            if saving:
                checkpoints.save(saved, number, stepper.leave(current), facts)
    progress.close()
    saved.close()

    # --- What came of it -------------------------------------------------------------------------
    if not first:
        return
    log.plot_training(metrics_path, workdir / "curves.png")
    if protocol and result is not None:
        title = f"Verification: {protocol.name}"
        evaluation.write_report(workdir / "report", {"trained": result}, title=title)
    print(log.final_table(log.read_lines(metrics_path)))
    print(f"written to {workdir}: checkpoints/, metrics.jsonl, config.json, curves.png, report/")


if __name__ == "__main__":
    command.run(main)
