"""Where in the order of an epoch training stands: {"epoch", "offset"}, the offset in examples of the global epoch."""

from collections.abc import Mapping

from ncl_jax.errors import UserError


def of_step(step: int, *, batch: int, steps_per_epoch: int) -> dict[str, int]:
    """Where step number `step`, counted from 0 over all epochs, starts."""
    epoch, step = divmod(step, steps_per_epoch)
    return {"epoch": epoch, "offset": step * batch}


def step_at(position: Mapping[str, int] | None, *, batch: int, steps_per_epoch: int, data: str) -> int:
    """The number of the step that starts there; 0 for None. UserError where none does; `data` names what is read."""
    if position is None:
        return 0
    epoch, offset = int(position["epoch"]), int(position["offset"])
    if epoch < 0 or offset % batch or not 0 <= offset <= steps_per_epoch * batch:
        raise UserError(f"position {dict(position)}: is none of {data} in batches of {batch}")
    return epoch * steps_per_epoch + offset // batch
