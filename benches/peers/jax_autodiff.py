"""Three-step descent as written, in JAX: one loss over the whole batch and its gradients."""

import jax
import jax.numpy as jnp
from task import main


def forward(value, w, z_in, z_out, trigger, query, tokens, position):
    """Attention scores N x L and logits N x V of the network."""
    inputs = z_in[tokens]
    informative = jax.nn.one_hot(position, tokens.shape[1], dtype=z_in.dtype)
    keys = inputs + informative[:, :, None] * trigger
    scores = keys @ (w @ query)
    alpha = jax.nn.softmax(scores, axis=1)
    context = jnp.einsum("nl,nld->nd", alpha, inputs)
    return scores, (context @ value.T) @ z_out.T


def loss(value, w, z_in, z_out, trigger, query, tokens, position, label):
    _, logits = forward(value, w, z_in, z_out, trigger, query, tokens, position)
    own = jnp.take_along_axis(logits, label[:, None], axis=1)[:, 0]
    return (jax.nn.logsumexp(logits, axis=1) - own).mean()


@jax.jit
def trial(z_in, z_out, trigger, query, train, test, rates):
    dim = z_in.shape[1]
    fixed = (z_in, z_out, trigger, query)
    zero = jnp.zeros((dim, dim), z_in.dtype)
    value = -rates[0] * jax.grad(loss, 0)(zero, zero, *fixed, *train)
    w = -rates[1] * jax.grad(loss, 1)(value, zero, *fixed, *train)
    value = value - rates[2] * jax.grad(loss, 0)(value, w, *fixed, *train)
    tokens, position, label = test
    scores, logits = forward(value, w, *fixed, tokens, position)
    return (scores.argmax(1) == position).sum(), (logits.argmax(1) == label).sum()


def run(d, rates):
    train = (d.tokens, d.position, d.label)
    test = (d.test_tokens, d.test_position, d.test_label)
    rates = jnp.array(rates, jnp.float32)
    done = trial(d.z_in, d.z_out, d.trigger, d.query, train, test, rates)
    return jax.block_until_ready(done)


if __name__ == "__main__":
    main(run)
