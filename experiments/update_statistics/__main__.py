"""Bias and variance of one update: how good is what each rule makes of one batch?

    python -m experiments.update_statistics                        # the digits, every action
    python -m experiments.update_statistics --rules q_agrel,agrel --batch-sizes 1,16,128
    python -m experiments.update_statistics mnist_dense --method sampled --stages 0,1,5,20,60
    python -m experiments.update_statistics --resume --out DIR      # resume after a crash

Networks are trained with Q-AGREL (--weights own: each with the rule that is measured). At every
stage each rule's expected update is compared with the gradients of three objectives, layer by
layer: the cross-entropy, ½(r − q_s)² on average over the policy, and the expected reward. Of rules
without noise every action of every image is enumerated (--method exact), else batches are sampled
and the estimates have standard errors. Rules with random feedback are always measured on weights
that they trained themselves, since feedback alignment is the work of learning.

DIR gets plan.json, measurements.jsonl (a line a rule, seed, stage and number of classes: the unit
of resuming), summary.json and bias_and_variance.png; while it is at work, the weights too.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.common import cli, fields, files, folders
from experiments.common.cli import UserError
from experiments.update_statistics import settings
from experiments.update_statistics.settings import RULES, Plan

PLAN = "plan.json"
OPTIONS = (
    *("rules", "weights", "stages", "classes"),
    *("batch_sizes", "images", "samples", "method"),
)
"""What a plan says beside its config."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, measure what is not measured yet, sum up, draw."""
    arguments = _parser().parse_args(argv)
    folders.check_resume(arguments.resume, arguments.out)
    out = arguments.out or folders.default("update_statistics")
    plan = _plan(arguments)
    with cli.resumable("update_statistics", out), folders.claimed(out, (PLAN,), arguments.resume):
        _begin(out, plan)
        run(out, plan, arguments.data_dir)


def run(folder: Path, plan: Plan, data_dir: str | None = None) -> dict[str, Any]:
    """Measure what ``folder`` lacks; return the summary, also written."""
    from experiments.common import provenance
    from experiments.common.progress import Reporter
    from experiments.update_statistics import plots, summary
    from qagrel_jax import data

    name = plan.config.dataset
    try:
        dataset = data.load(name, data_dir)
    except ValueError as error:
        raise UserError(str(error)) from None
    provenance.check_arrays(files.environments(folder), dataset, name, folder)
    environment = provenance.environment(dataset=dataset)
    files.append_line(folder / "environments.jsonl", environment)
    first = files.first_environment(folder)
    lines = _lines_done(folder)
    if (most := max(classes or 0 for classes in plan.classes)) > dataset.num_classes:
        raise UserError(f"--classes {most}: {name} has {dataset.num_classes}")
    total = len(plan.rules) * len(plan.stages) * len(plan.classes) * plan.config.seeds
    with Reporter("update statistics", total) as reporter:
        for classes in plan.classes:
            _measure(folder, plan, dataset, classes or dataset.num_classes, lines, reporter)
        reporter.update(total, "done", important=True)
    content = {"plan": settings.to_json(plan), **first, **summary.summarize(plan, lines)}
    files.write_json(folder / "summary.json", content)
    plots.draw(folder / "bias_and_variance.png", plan, content["results"])
    for path in folder.glob("weights_*.msgpack"):
        path.unlink()
    summary.print_table(plan, content["results"])
    print(f"everything is in {folder}")
    return content


def _measure(
    folder: Path, plan: Plan, dataset: Any, classes: int, lines: list[dict[str, Any]], reporter: Any
) -> None:
    """Measure every rule on the first ``classes`` classes; add to ``lines``, and to the file."""
    import jax

    from experiments.update_statistics import stages
    from experiments.update_statistics.instrument import Instrument
    from experiments.update_statistics.references import References

    done = {(line["rule"], line["classes"], line["stage"], line["seed"]) for line in lines}
    seeds = range(plan.config.first_seed, plan.config.first_seed + plan.config.seeds)
    problem = stages.make_problem(plan, dataset, classes)

    def report(state: str) -> None:
        reporter.update(len(lines), state)

    for trainer in dict.fromkeys(map(plan.trainer_of, plan.rules)):
        labels = [label for label in plan.rules if plan.trainer_of(label) == trainer]
        wanted = itertools.product(labels, [classes], plan.stages, seeds)
        if done.issuperset(wanted):
            continue
        references = References(plan, trainer, problem)
        instruments = {label: Instrument(plan, label, problem) for label in labels}
        reached = stages.weights_at_stages(folder, plan, trainer, problem, report)
        for stage, states, accuracy in reached:
            for index, seed in enumerate(seeds):
                state = jax.tree.map(lambda x, i=index: x[i], states)
                here = references.at(state)
                for label in labels:
                    if (label, classes, stage, seed) in done:
                        continue
                    report(f"{label}, {classes} classes, epoch {stage}, seed {seed}")
                    line = {
                        "rule": label,
                        "weights": trainer,
                        "classes": classes,
                        "stage": stage,
                        "seed": seed,
                        "accuracy": round(float(accuracy[index]), 5),
                        "exact": instruments[label].exact,
                        "batches": instruments[label].measure(state, seed, here),
                    }
                    files.append_line(folder / "measurements.jsonl", line)
                    lines.append(line)


def _plan(arguments: Any) -> Plan:
    there = arguments.resume and (arguments.out / PLAN).is_file()
    if arguments.resume and not there:
        named = any(getattr(arguments, name) is not None for name in ("config", "seeds", *OPTIONS))
        folders.start_instead(arguments.out, (PLAN,), named)
    if there:
        config, saved = _saved(arguments.out)
        if arguments.config:
            config = configs.replace(configs.load(arguments.config), {"seeds": config.seeds})
    else:
        config, saved = configs.load(arguments.config or configs.DEFAULT), {}
    if arguments.seeds is not None:
        config = configs.replace(config, {"seeds": arguments.seeds})
    elif not saved:
        config = configs.replace(config, {"seeds": 3})
    given = {name: getattr(arguments, name) for name in OPTIONS}
    given = saved | {name: value for name, value in given.items() if value is not None}
    given.setdefault("batch_sizes", (config.batch_size,))
    if "method" not in given:
        small = config.architecture == "dense" and config.hidden is not None
        given["method"] = "exact" if small else "sampled"
    if given["method"] == "exact" and config.architecture != "dense":
        raise UserError("--method exact needs a network without BatchNorm and dropout: dense")
    if config.feedback != "tied":
        raise UserError(
            f"{config.name} has {config.feedback} feedback, and a rule is measured with its own, "
            "tied or (feedback_alignment, q_agrel_random_feedback) random: give a tied config"
        )
    measured = given.get("rules", tuple(settings.RULES))
    enumerated = all(settings.RULES[rule].enumerable for rule in measured if rule in settings.RULES)
    if arguments.samples is not None and given["method"] == "exact" and enumerated:
        raise UserError("--samples does nothing where every action is enumerated: leave it out")
    if unknown := settings.misfits(given):
        raise UserError(
            f"{arguments.out / 'plan.json'} is no plan ({unknown}): choose another --out"
        )
    return Plan(config, **given)


def _saved(folder: Path) -> tuple[configs.Config, dict[str, Any]]:
    content = files.read_json(folder / PLAN) or {}
    try:
        config = configs.from_json(content.pop("config"))
        return config, fields.as_given(content)
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{folder / 'plan.json'} is no plan: choose another --out") from None


def _begin(folder: Path, plan: Plan) -> None:
    """Write the plan of a new run; drop the line of measurements that a kill cut off.

    Raises:
      UserError: the folder is of a run with another plan.
    """
    content = settings.to_json(plan)
    saved = files.read_json(folder / PLAN)
    if saved is None:
        files.write_json(folder / PLAN, content)
    elif different := [key for key in content if _as_now(saved).get(key) != content[key]]:
        raise UserError(
            f"{folder} was started with other settings ({', '.join(different)}): leave these "
            "options out to resume, or choose another --out"
        )
    lines = _lines_done(folder)
    if lines:
        files.write_lines(folder / "measurements.jsonl", lines)


def _as_now(saved: dict[str, Any]) -> dict[str, Any]:
    """Return a plan as this version writes it, whose configuration may have more fields."""
    return {**saved, "config": configs.to_json(configs.from_json(saved["config"]))}


def _lines_done(folder: Path) -> list[dict[str, Any]]:
    """Return the whole lines of what was measured; others are measured again."""
    needed = {"rule", "weights", "classes", "stage", "seed", "accuracy", "exact", "batches"}
    lines = files.read_lines(folder / "measurements.jsonl")
    return [line for line in lines if needed <= line.keys() and isinstance(line["batches"], dict)]


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.update_statistics", description=__doc__)
    add = parser.add_argument
    known = ", ".join(configs.names())
    add(
        "config",
        nargs="?",
        metavar="CONFIG",
        help=f"network and data: {known}, or a .py file; default: digits",
    )
    whole = cli.number(int, 1, 10**9)
    add(
        "--rules",
        type=cli.several(cli.one_of("rule", tuple(RULES))),
        metavar="RULE[,RULE]",
        help=f"{', '.join(RULES)}; default: all",
    )
    add(
        "--weights",
        type=cli.one_of("weights", settings.WEIGHTS),
        metavar="WHICH",
        help="common (default): all rules on the weights of a network that Q-AGREL trains; own: "
        "each on those that it trains itself",
    )
    add(
        "--stages",
        type=cli.several(cli.number(int, 0, 10**6)),
        metavar="N[,N]",
        help=f"epochs of training, default: {fields.shown(Plan.stages)}",
    )
    add(
        "--classes",
        type=cli.several(cli.number(int, 2, 10**6)),
        metavar="N[,N]",
        help="the first so many, default: all",
    )
    add("--batch-sizes", type=cli.several(whole), metavar="N[,N]", help="default: the config's")
    add(
        "--images",
        type=cli.number(int, 0, 10**9),
        metavar="N",
        help="only the first N training images, 0 (default): all",
    )
    add(
        "--samples",
        type=cli.number(int, 20, 10**9),
        metavar="N",
        help=f"batches where actions are not enumerated, default: {Plan.samples}",
    )
    add(
        "--method",
        type=cli.one_of("method", ("exact", "sampled")),
        metavar="METHOD",
        help="exact or sampled; default: exact where the config has sizes of its own",
    )
    add("--seeds", type=cli.number(int, 1, 10**6), metavar="N", help="networks, default: 3")
    folders.add_options(parser, "update_statistics", resume=True)
    cli.add_data_dir(parser)
    return parser


if __name__ == "__main__":
    cli.run(main)
