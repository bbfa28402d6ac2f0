"""What a method is: three pure functions, and the pieces that methods share.

`params` is what the optimiser moves. `extra` is all other state of the method: batch statistics, EMA target, queue.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ncl_jax import config as config_lib
from ncl_jax import losses, models
from ncl_jax.errors import UserError

Tree = Any

# Parts of `aux` whose leading axis is the batch, in the order of the queries.
PER_IMAGE = ("features", "embeddings", "keys", "query", "positive", "non_semantic")


class Method(NamedTuple):
    """The contract that `step` runs.

    `views` holds `query` and `key` `[b s s 3]`, `key_order` `[b]` (`key[j]` shows image `key_order[j]`),
    `non_semantic` `[b m s s 3]` or None, and `alpha` `[m]`. `params["backbone"]` and
    `extra["batch_stats"]["backbone"]` are the variables of `models.encoder(config.model)`: by them a run is evaluated
    and converted. `Encoder` keeps everything so.
    """

    init: Callable[[Key[Array, ""], Float[Array, "b s s 3"]], tuple[Tree, Tree]]  # (key, images) -> params, extra
    # (params, extra, views, key) -> loss, aux: `metrics` (scalars), `features` and `embeddings` [b d], what
    # after_update wants and, for analyses (a step drops them), what the loss compares: `query`, `positive` [b d] and,
    # where there are any, `non_semantic` [b m d]. Only PER_IMAGE has the batch in front; all else is a mean over it
    # (see micro_batches).
    loss: Callable[[Tree, Tree, Mapping[str, Any], Key[Array, ""]], tuple[Float[Array, ""], dict[str, Any]]]
    after_update: Callable[[Tree, Tree, dict[str, Any], Array], Tree]  # (new params, extra, aux, step) -> extra


class Encoder(NamedTuple):
    """A backbone and the heads after it. Variables are dicts by name: params and stats of `backbone`, `head`, ..."""

    backbone: Any
    heads: dict[str, Any]

    def init(self, key: Key[Array, ""], images: Float[Array, "b s s 3"]) -> tuple[Tree, Tree]:
        """Fresh params and batch statistics of all networks."""
        params, stats = {}, {}
        x = images
        for position, (name, network) in enumerate(self._networks()):
            x, variables = network.init_with_output(jax.random.fold_in(key, position), x, train=False)
            params[name], stats[name] = variables["params"], variables.get("batch_stats", {})
        return params, stats

    def apply(
        self,
        params: Tree,
        stats: Tree,
        images: Float[Array, "b s s 3"],
        *,
        skip: tuple[str, ...] = (),
        places: Int[Array, " b"] | None = None,
    ) -> tuple[dict[str, Float[Array, "b d"]], Tree]:
        """Outputs of every network by name, and the new batch statistics; always in train mode. `places`: see
        `BatchNorm`."""
        outputs, new_stats, x = {}, dict(stats), images
        for name, network in self._networks():
            if name in skip:
                continue
            variables = {"params": params[name], "batch_stats": stats[name]}
            x, updated = network.apply(variables, x, train=True, places=places, mutable=["batch_stats"])
            outputs[name], new_stats[name] = x, updated.get("batch_stats", {})
        return outputs, new_stats

    def apply_pooled(
        self,
        params: Tree,
        stats: Tree,
        parts: Sequence[Float[Array, "_ s s 3"]],
        *,
        skip: tuple[str, ...] = (),
    ) -> tuple[list[dict[str, Float[Array, "_ d"]]], Tree]:
        """`apply` on several batches as one for batch norm (see `pool`): the outputs of each, the statistics."""
        if len(parts) == 1:
            outputs, stats = self.apply(params, stats, parts[0], skip=skip)
            return [outputs], stats
        outputs, stats = self.apply(params, stats, pool(parts), skip=skip)
        split = {name: unpool(output, [len(part) for part in parts]) for name, output in outputs.items()}
        return [{name: pieces[i] for name, pieces in split.items()} for i in range(len(parts))], stats

    def _networks(self) -> list[tuple[str, Any]]:
        return [("backbone", self.backbone), *self.heads.items()]


def predicting_encoder(config: config_lib.Config, hidden: int, embedding: int) -> Encoder:
    """Backbone, projector and predictor, these two with batch norm: the online network of BYOL and MoCo-v3.

    Their output layers have a bias, as solo-learn's, where the authors' have none.
    """
    heads = {
        name: models.MLP((hidden, embedding), batch_norm=True, bn_groups=config.model.bn_groups)
        for name in ("head", "predictor")
    }
    return Encoder(models.encoder(config.model), heads)


def check_head_groups(config: config_lib.Config) -> None:
    """Raise UserError where a head's batch norm would see a single embedding and make it zero."""
    if config.batch == config.model.bn_groups:
        raise UserError(
            f"config.model.bn_groups = {config.model.bn_groups}: leaves a single image of config.batch = "
            f"{config.batch} to a group, and the head's batch norm would make its embedding zero; use fewer"
        )


def check_in_batch(config: config_lib.Config, name: str) -> None:
    """Raise UserError where a batch cannot be cut into parts because its images are each other's negatives."""
    if config.optim.accumulate > 1:
        raise UserError(
            f"config.optim.accumulate = {config.optim.accumulate}: the negatives of {name} are the rest of the batch, "
            "so its parts do not add up to it; use 1 (config.model.remat saves memory)"
        )


def flat_negatives(non_semantic: Float[Array, "b m s s 3"]) -> Float[Array, "bm s s 3"]:
    """Negatives as a batch of their own, image after image, so that batch-norm groups keep to their images."""
    return non_semantic.reshape(-1, *non_semantic.shape[2:])


def of_each_query(outputs: Float[Array, "bm d"], queries: Float[Array, "b ..."]) -> Float[Array, "b m d"]:
    """What encoding `flat_negatives` gave, by the queries that they are negatives of."""
    return outputs.reshape(len(queries), -1, outputs.shape[-1])


def places(order: Int[Array, " b"], count: int) -> Int[Array, " bm"]:
    """Where `count` flat negatives would lie if they were shuffled: by the keys' `order` twice over, since under
    symmetric losses keys are queries too and are to have other groups as well."""
    batch, num = len(order), count // len(order)
    of_key = jnp.zeros(batch, jnp.int32).at[order].set(jnp.arange(batch), unique_indices=True)
    return (of_key[of_key][:, None] * num + jnp.arange(num)[None]).ravel()


def pool(parts: Sequence[Float[Array, "_ *s"]]) -> Float[Array, "n *s"]:
    """Several batches as one, image by image of the first (the others have as many rows, or a multiple of them).

    So batch norm takes its statistics over the same group of all of them, and every device keeps its images.
    """
    by_image = [part.reshape(len(parts[0]), -1, *part.shape[1:]) for part in parts]
    return jnp.concatenate(by_image, axis=1).reshape(-1, *parts[0].shape[1:])


def unpool(pooled: Float[Array, "n *s"], sizes: Sequence[int]) -> list[Float[Array, "_ *s"]]:
    """The batches of these sizes out of what `pool` made of them."""
    grouped = pooled.reshape(sizes[0], -1, *pooled.shape[1:])
    ends = [sum(sizes[: i + 1]) // sizes[0] for i in range(len(sizes) - 1)]
    return [part.reshape(-1, *pooled.shape[1:]) for part in jnp.split(grouped, ends, axis=1)]


def ema(target: Tree, online: Tree, momentum: float | Array) -> Tree:
    """Exponential moving average in the parameters' own precision."""
    return jax.tree.map(lambda t, p: t + (1 - momentum) * (p - t), target, online)


def unpermute(embeddings: Float[Array, "b d"], order: Int[Array, " b"]) -> Float[Array, "b d"]:
    """Embeddings of key views back in the order of their queries; only these ever cross devices, no images."""
    return jnp.zeros_like(embeddings).at[order].set(embeddings, unique_indices=True)


def health(embeddings: Float[Array, "b d"]) -> dict[str, Float[Array, ""]]:
    """Collapse guards of a batch of embeddings.

    `feature_std`: standard deviation over the batch of the normalised embedding, times sqrt(d); 1 when spread evenly
    over the sphere, 0 when collapsed. `effective_rank`: participation ratio `(sum e)^2 / sum e^2` of the eigenvalues
    e of the centred covariance, between 1 and min(b, d).
    """
    z = losses.normalize(jax.lax.stop_gradient(embeddings))
    centred = z - jnp.mean(z, axis=0, keepdims=True)
    gram = centred @ centred.T if len(z) < z.shape[1] else centred.T @ centred  # they share their eigenvalues
    total, squares = jnp.trace(gram), jnp.sum(gram * gram)
    return {
        "feature_std": jnp.mean(jnp.std(z, axis=0)) * z.shape[1] ** 0.5,
        "effective_rank": total**2 / jnp.maximum(squares, 1e-20),
    }


def in_batch_metrics(
    logits: Float[Array, "n k"], temperature: float, non_semantic: Float[Array, "b m d"] | None
) -> dict[str, Float[Array, ""]]:
    """Similarities and contrast accuracy of logits of `losses.in_batch_logits` or `losses.nt_xent_logits`."""
    logits = jax.lax.stop_gradient(logits)
    count = logits.shape[1] - (non_semantic.shape[1] if non_semantic is not None else 0)
    others = logits[:, 1:count]
    used = others > losses.MASKED / temperature / 2
    return {
        # The loss when all logits are equal: log of how many there are.
        "chance_loss": jnp.log(jnp.sum(logits[0] > losses.MASKED / temperature / 2).astype(jnp.float32)),
        "contrast_top1": jnp.mean(jnp.argmax(logits[:, :count], axis=1) == 0),
        "similarity_positive": jnp.mean(logits[:, 0]) * temperature,
        "similarity_batch": jnp.sum(jnp.where(used, others, 0.0)) / jnp.maximum(jnp.sum(used), 1) * temperature,
    }


def similarity_to_negatives(
    query: Float[Array, "b d"], non_semantic: Float[Array, "b m d"] | None
) -> dict[str, Float[Array, ""]]:
    """Mean cosine of each query to its own negatives, as the metric `similarity_ns`; nothing where there are none."""
    if non_semantic is None:
        return {}
    cosine = jnp.einsum("bd,bmd->bm", losses.normalize(query), losses.normalize(non_semantic))
    return {"similarity_ns": jax.lax.stop_gradient(jnp.mean(cosine))}
