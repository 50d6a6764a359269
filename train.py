"""Trains a face-recognition network.

    python train.py                                  # synthetic faces, a small network, the CPU
    python train.py --config=configs/lfw_dev.py --config.data.path=FOLDER --workdir=runs/mine

Everything is written into the workdir: checkpoints, metrics.jsonl, config.json, curves.png and
report/. The same command again goes on from the newest checkpoint.
"""

import time

STARTED = time.perf_counter()

# ruff: noqa: E402
import contextlib
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import config_flags

from facejax import checkpoints, command, compilation, data, evaluation, files, recognition
from facejax.errors import UserError
from facejax.training import (
    bad_records,
    distributed,
    evaluating,
    from_config,
    log,
    resume,
    state,
    step,
    tensorboard,
)

HERE = pathlib.Path(__file__).parent
CONFIG = command.define_config(str(HERE / "configs" / "default.py"))
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where everything is written; by default runs/NAME of the config."
)
ACCEPT_CHANGES = flags.DEFINE_boolean(
    "accept_changes",
    False,
    "Go on from a checkpoint although the loss, the seed or the order of the data have changed.",
)
# Not in the config, as they differ from process to process.
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 of several.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, counted from 0.")


def main(opened: contextlib.ExitStack) -> None:
    """Trains, evaluates and reports; what is to be closed, whatever comes, is put on `opened`."""
    config, given = command.config_value(CONFIG)
    notes = from_config.settled(config, given)
    with command.remedy("the flags are --coordinator=HOST:PORT, --processes and --process"):
        distributed.initialize(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    for note in notes:
        distributed.say(f"note: {note}")
    devices = from_config.devices(config)

    # --- All that will be written, tried before the work -----------------------------------------
    if config.tensorboard:
        tensorboard.check_installed()
    with command.optional():
        compilation.enable_cache(config.compilation_cache)
    with command.optional():
        from_config.try_cache(config)
    name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = files.expand(WORKDIR.value or f"runs/{name}")
    if workdir.is_file():
        raise UserError(f"the workdir {workdir} is a file; give a folder with --workdir")
    metrics_path = workdir / "metrics.jsonl"
    first = jax.process_index() == 0  # of several processes, the one that prints and writes
    with command.remedy("name it with --workdir"):
        if first:
            log.make_directory(workdir)
        saved = checkpoints.open_directory(workdir / "checkpoints", keep=config.checkpoint.keep)

    opened.enter_context(log.told_when_interrupted(workdir))
    opened.callback(checkpoints.close, saved)  # it waits for a save that is on its way

    # --- Network and loss: a mistake in the config stops here, before any data is read ------------
    network = from_config.network(config, axis_name=step.AXIS)
    from_config.objective(config)  # made again when the images are counted
    augmentation = from_config.augmentation(config)

    # --- Data ------------------------------------------------------------------------------------
    source = from_config.training_source(config)
    if passed_over := getattr(source, "passed_over", ()):
        distributed.say(f"note: passed over: {', '.join(passed_over)}")
    num_classes = source.num_classes
    data.check_labels(source, num_classes)
    objective = from_config.objective(config, source)
    steps = from_config.steps(config, source)
    planned = from_config.evaluations(config)
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

    # --- Resume, or start ------------------------------------------------------------------------
    start = 0
    changed: tuple[str, ...] = ()
    if saved.latest_step() is not None:

        def restored(step: int) -> tuple[state.TrainState, resume.GoingOn]:
            was = checkpoints.read_facts(saved, step)
            going_on = resume.going_on(was, config, source)
            if going_on.another_run and not ACCEPT_CHANGES.value:
                raise UserError(
                    f"{workdir} has another run: {'; '.join(going_on.another_run)}; give what it "
                    "had, or --accept_changes to go on all the same"
                )
            facts, own = from_config.facts(config, going_on.source), state.per_class(placed)
            return checkpoints.restore(saved, step, placed, facts, per_class=own), going_on

        with command.remedy("or start anew with another --workdir"):
            start, (current, going_on), damaged = checkpoints.newest_whole(saved, restored)
        source, changed = going_on.source, going_on.changed
        for note in filter(None, (*damaged, going_on.note)):
            distributed.say(f"note: {note}")
        if start < steps:
            distributed.say(f"going on from step {start} of {workdir}")
            if changed:
                distributed.say(f"going on with {'; '.join(changed)}")
            if damaged:
                checkpoints.set_aside(saved, start)
                distributed.say("the damaged checkpoints are kept under names in .damaged")
    else:
        places = jax.tree.map(lambda leaf: leaf.sharding, placed)
        current = compilation.jit(create, out_shardings=places)(jax.random.key(config.seed))
    if start >= steps:
        unused = f"; it was not trained with {'; '.join(changed)}" if changed else ""
        distributed.say(
            f"the run in {workdir} is complete: {start} steps; more --config.steps go on from it"
            f"{unused}\n{log.final_table(log.read_lines(metrics_path))}"
        )
        return
    facts = from_config.facts(config, source)
    batches = from_config.batches(config, source, start=start)
    opened.callback(getattr(batches, "close", lambda: None))
    unread = bad_records.BadRecords(
        workdir / bad_records.file_name(jax.process_index()),
        source,
        most=config.data.bad_records,
        start=start,
    )
    if first:
        with files.refusing(workdir, "make room there, or give another --workdir"):
            log.forget_after(metrics_path, start)
            files.write(workdir / "config.json", json.dumps(facts["config"], indent=2) + "\n")

    # --- The step and the evaluation, compiled once ----------------------------------------------
    stepper = from_config.compiled_step(
        config, network, objective, head, augmentation, shapes, devices=devices
    )
    embedder = recognition.make_embedder(network.apply, unit=False)

    def evaluate(current: state.TrainState, *, whole: bool = False) -> evaluating.Evaluated:
        size = config.evaluation.batch_size
        return evaluating.evaluate(embedder, current, planned, batch_size=size, whole=whole)

    best = from_config.best_checkpoint(config, workdir / "best", planned, start=start)
    if best:
        opened.callback(best.close)

    # --- The loop --------------------------------------------------------------------------------
    untrained = evaluate(current) if planned and not start else None
    scalars = None
    if config.tensorboard and first:
        with files.refusing(workdir / "tensorboard", "make room there, or give another --workdir"):
            scalars = tensorboard.Scalars(workdir / "tensorboard", start=start)
        opened.callback(scalars.close)
    progress = log.Progress(
        metrics_path,
        steps=steps,
        start=start,
        learning_rates=np.asarray(jax.vmap(rate)(jnp.arange(steps))),
        source=source,
        silent=not first,
        scalars=scalars,
    )
    opened.callback(progress.close)
    if untrained:
        progress.write({"step": 0, **untrained.numbers})
    current = stepper.enter(current)
    distributed.barrier("the first step")
    previous = None
    measured = None
    for number in range(start + 1, steps + 1):
        batch = next(batches)
        # Which they are is not for the device.
        records, replaced = batch.pop("record"), batch.pop("replaced", None)
        if replaced is not None:
            unread.update(number, records, replaced)
        current, metrics = stepper.run(current, stepper.feed(batch))
        if number == start + 1:
            jax.block_until_ready(metrics)
            progress.say(f"first step done {time.perf_counter() - STARTED:.1f} s after the start")
        # The numbers of the step before are read while the device works on this one.
        if previous:
            progress.update(*previous)
        previous = number, metrics, records
        measuring = planned and (number == steps or log.due(number, config.evaluation.every))
        saving = number == steps or log.due(number, config.checkpoint.every)
        if measuring or saving:
            progress.update(*previous)
            previous = None
        with progress.paused():
            if measuring:
                measured = evaluate(current, whole=number == steps)
                progress.write({"step": number, **measured.numbers})
                progress.say(f"step {number}: {evaluating.in_words(measured.numbers)}")
                if best:
                    best.update(
                        number, measured.of_parts, functools.partial(stepper.leave, current), facts
                    )
            if saving:
                checkpoints.save(saved, number, stepper.leave(current), facts)
    opened.close()  # now all is on the disk

    # --- What came of it -------------------------------------------------------------------------
    if not first:
        return
    print(log.final_table(log.read_lines(metrics_path)))
    written = ["checkpoints", "metrics.jsonl", "config.json", "curves.png"]
    written += ["best"] * bool(best) + ["tensorboard"] * config.tensorboard
    if best and best.value is not None:
        print(f"best: step {best.step}, {best.number.removeprefix('-')} {best.value:.4f}")
    if unread.known:
        written.append(unread.path.name)
        print(f"{len(unread.known)} records could not be read; others stood in for them")
    with files.refusing(workdir, "make room there; the network is saved, and eval.py reports it"):
        log.plot_training(metrics_path, workdir / "curves.png")
        own = measured.results.get("") if measured else None  # of the run's own pairs
        if isinstance(own, evaluation.Verification):
            title = f"Verification: {planned[0].whole.protocol.name}"
            evaluation.write_report(workdir / "report", {"trained": own}, title=title)
            written.append("report")
    print(f"written to {workdir}: {', '.join(log.those_there(workdir, written))}")


if __name__ == "__main__":
    command.run(main)
