"""What `ncl-jax study` does: run, sum up after every run, write the report."""

from pathlib import Path

from ncl_jax.errors import UserError
from ncl_jax.study import kept, page, runs, summary, tables
from ncl_jax.study.plan import Plan


def run(
    plan: Plan,
    folder: str,
    *,
    only: tuple[str, ...] = (),
    report: bool = False,
    export: str | None = None,
    take_from: str | None = None,
    command: str,
) -> bool:
    """Carry out `plan` in `folder`, or go on with it.

    `only`: these variants. `report`: run nothing, write tables and report of what is there. `export`: also keep the
    tables and a figure in this folder. `take_from`: such a folder, whose runs are taken over. True where SIGTERM
    stopped it: the tables hold what there is. Raises UserError for bad input before any compute, and in the end if a
    run has failed.
    """
    summary.published(plan)  # these find mistakes before anything is made
    chosen = plan.runs(only)
    if not report:
        plan.check_different(only)
    root = Path(folder).expanduser().resolve()
    if report and take_from is None and not root.is_dir():
        raise UserError(f"--workdir={root}: holds no study")
    try:
        if take_from is not None:
            kept.take_over(plan, root, Path(take_from).expanduser())  # refused, it leaves no folder
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={root}: cannot be written: {error.strerror}") from error

    def sum_up() -> None:
        kept.write_tables(summary.collect(plan, root, command), root)

    if export is not None:
        so_far, to_run = summary.collect(plan, root, command), set() if report else set(chosen)
        kept.check(Path(export).expanduser(), so_far, kept.finished(so_far) | to_run)
    stopped = False
    if not report:
        runs.check(plan, root, only)
        sum_up()
        stopped = runs.carry_out(plan, root, only=only, after_each=sum_up)
    document = summary.collect(plan, root, command)
    kept.write_tables(document, root)
    page.write(document, root / "report.html", root)
    print(tables.markdown(document))
    print(f"wrote {root / 'report.html'}", flush=True)
    if export is not None:
        kept.write(document, Path(export).expanduser())
    failed = tables.failures(document)
    if failed:
        raise UserError(f"{len(failed)} of {len(document['runs'])} runs have no results; the first: {failed[0]}")
    return stopped
