"""Trains a small network on the UCI handwritten digits with Adam, in numpy.

First start, crash and resume are one code path: `init` says where to go on, `load` gives back what was saved there. A fork is
the same path again, with another learning rate.

    python train_digits.py --run-id digits                       # start, or go on after a crash
    python train_digits.py --run-id cooler --fork digits-hot@last-good --lr 0.003
"""

import argparse

import numpy as np
import runtree
from sklearn.datasets import load_digits

BATCH, HIDDEN, SAVE_EVERY = 128, 256, 50


def new_state(seed):
    """Weights (float32 [in, out]) and biases, Adam's moments and step count, and where the data order stands."""
    rng = np.random.default_rng(seed)
    sizes = [(64, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 10)]
    params = {}
    for layer, (fan_in, fan_out) in enumerate(sizes):
        params[f"w{layer}"] = rng.normal(0, (2 / fan_in) ** 0.5, (fan_in, fan_out)).astype(np.float32)
        params[f"b{layer}"] = np.zeros(fan_out, np.float32)
    zeros = {name: np.zeros_like(value) for name, value in params.items()}
    moments = {"m": zeros, "v": {name: value.copy() for name, value in zeros.items()}, "t": 0}
    return {"params": params, "adam": moments, "data_order": rng.bit_generator.state}


def forward(params, x):
    """Activations of each layer, then the class probabilities, float32 [batch, 10]."""
    layers = [x]
    for layer in range(2):
        layers.append(np.maximum(layers[-1] @ params[f"w{layer}"] + params[f"b{layer}"], 0))
    logits = layers[-1] @ params["w2"] + params["b2"]
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return layers, exp / exp.sum(axis=1, keepdims=True)


def gradients(params, layers, probabilities, y):
    """Gradient of the mean cross-entropy, by name."""
    delta = probabilities.copy()
    delta[np.arange(len(y)), y] -= 1
    delta /= np.float32(len(y))
    grads = {}
    for layer in (2, 1, 0):
        grads[f"w{layer}"] = layers[layer].T @ delta
        grads[f"b{layer}"] = delta.sum(axis=0)
        if layer:
            delta = (delta @ params[f"w{layer}"].T) * (layers[layer] > 0)
    return grads


def adam_step(params, adam, grads, lr):
    """One step of Adam (Kingma & Ba 2015) with the usual constants, in place."""
    adam["t"] += 1
    for name, grad in grads.items():
        m, v = adam["m"][name], adam["v"][name]
        m += np.float32(0.1) * (grad - m)
        v += np.float32(0.001) * (grad * grad - v)
        m_hat = m / np.float32(1 - 0.9 ** adam["t"])
        v_hat = v / np.float32(1 - 0.999 ** adam["t"])
        params[name] -= np.float32(lr) * m_hat / (np.sqrt(v_hat) + np.float32(1e-8))


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--run-id", required=True, help="this run's own name; the same name goes on where it stopped")
    args.add_argument("--fork", help="checkpoint to fork from, like digits@250")
    args.add_argument("--lr", type=float, default=None, help="learning rate; default 0.001, or the parent's")
    args.add_argument("--growth", type=float, default=None, help="factor on the learning rate every 100 steps")
    args.add_argument("--steps", type=int, default=600)
    args = args.parse_args()

    wanted = {"lr": args.lr, "growth": args.growth}
    config = {key: value for key, value in wanted.items() if value is not None}
    if not args.fork:
        config = {"lr": 0.001, "growth": 1.0, "hidden": HIDDEN, "batch": BATCH, "seed": 7} | config
    run = runtree.init("digits", name=args.run_id, run_id=args.run_id, resume="allow", fork=args.fork, config=config)
    state = run.load(default=None)
    if state is None:
        state = new_state(run.config["seed"])

    digits = load_digits()
    x, y = (digits.data / 16).astype(np.float32), digits.target
    train_x, train_y, test_x, test_y = x[:1500], y[:1500], x[1500:], y[1500:]
    data_order = np.random.default_rng()
    data_order.bit_generator.state = state["data_order"]

    with run:
        for step in range(run.next_step, args.steps + 1):
            batch = data_order.integers(0, len(train_x), BATCH)
            layers, probabilities = forward(state["params"], train_x[batch])
            with np.errstate(all="ignore"):  # a diverging run is part of the show: inf and NaN are logged as they are
                loss = -np.log(probabilities[np.arange(BATCH), train_y[batch]]).mean()
                lr = run.config["lr"] * run.config["growth"] ** (step / 100)
                adam_step(state["params"], state["adam"], gradients(state["params"], layers, probabilities, train_y[batch]), lr)
            accuracy = (probabilities.argmax(axis=1) == train_y[batch]).mean()
            run.log({"loss": loss, "accuracy": accuracy, "lr": lr}, step=step)
            if step % SAVE_EVERY == 0:
                test = (forward(state["params"], test_x)[1].argmax(axis=1) == test_y).mean()
                run.log({"test/accuracy": test}, step=step)
                state["data_order"] = data_order.bit_generator.state
                run.save(state, step=step)
                print(f"step {step}: loss {loss:.4f}, test accuracy {test:.3f}", flush=True)


if __name__ == "__main__":
    main()
