"""Three-step descent at finite step sizes in JAX with gradients by hand, in chunks.

Exact at any step size. W stays a multiple of the query, so a vector stands for it. At the zero
start attention is uniform and all classes are equally likely, so step 1 needs counts of (label,
token) pairs only. The later passes walk over chunks of samples inside one compiled scan.
"""

import functools

import jax
import jax.numpy as jnp
from task import main

CHUNKS = (256, 512, 1024)


def attend(key, z_in, trigger, tokens, position):
    """Attention weights and scores of a chunk, by table look-up."""
    scores = (z_in @ key)[tokens]
    rows = jnp.arange(tokens.shape[0])
    scores = scores.at[rows, position].add(trigger @ key)
    return jax.nn.softmax(scores, axis=1), scores


def context(alpha, z_in, tokens):
    return jnp.einsum("nl,nld->nd", alpha, z_in[tokens])


def error(value, z_out, h, label):
    """softmax - one-hot of a chunk, pulled back through the output table: n x d."""
    p = jax.nn.softmax((h @ value.T) @ z_out.T, axis=1)
    return p @ z_out - z_out[label]


@functools.partial(jax.jit, static_argnames="size")
def trial(z_in, z_out, trigger, query, train, test, rates, size):
    eta, gamma_w, gamma_v = rates
    tokens, position, label = train
    samples, length = tokens.shape
    vocab, dim = z_in.shape
    chunks = tuple(x.reshape(samples // size, size, *x.shape[1:]) for x in train)

    pair = (label[:, None] * vocab + tokens).ravel()
    counts = jnp.zeros(vocab * vocab, jnp.float32).at[pair].add(1.0).reshape(vocab, vocab)
    centred = counts - counts.mean(0)
    value = z_out.T @ (centred @ z_in) * (eta / (samples * length))

    # Step 2 at uniform attention.
    def second(total, chunk):
        tokens, position, label = chunk
        rows = jnp.arange(size)
        alpha = jnp.full((size, length), 1.0 / length, jnp.float32)
        g = error(value, z_out, context(alpha, z_in, tokens), label)
        slope = jnp.einsum("nld,nd->nl", z_in[tokens], g @ value)
        beta = (slope - slope.mean(1, keepdims=True)) / length
        weight, along = total
        weight = weight.at[tokens].add(beta)
        return (weight, along + beta[rows, position].sum()), None

    start = (jnp.zeros(vocab, jnp.float32), jnp.float32(0))
    (weight, along), _ = jax.lax.scan(second, start, chunks)
    gradient = (weight @ z_in + along * trigger) / samples
    key = -gamma_w * (query @ query) * gradient

    def third(total, chunk):
        tokens, position, label = chunk
        alpha, _ = attend(key, z_in, trigger, tokens, position)
        h = context(alpha, z_in, tokens)
        return total + error(value, z_out, h, label).T @ h, None

    total, _ = jax.lax.scan(third, jnp.zeros((dim, dim), jnp.float32), chunks)
    value = value - gamma_v * total / samples

    tokens, position, label = test
    alpha, scores = attend(key, z_in, trigger, tokens, position)
    logits = (context(alpha, z_in, tokens) @ value.T) @ z_out.T
    return (scores.argmax(1) == position).sum(), (logits.argmax(1) == label).sum()


def run(d, rates, size):
    train = (d.tokens, d.position, d.label)
    test = (d.test_tokens, d.test_position, d.test_label)
    rates = jnp.array(rates, jnp.float32)
    done = trial(d.z_in, d.z_out, d.trigger, d.query, train, test, rates, size)
    return jax.block_until_ready(done)


if __name__ == "__main__":
    import os

    chunk = int(os.environ.get("CHUNK", "256"))
    main(functools.partial(run, size=chunk))
